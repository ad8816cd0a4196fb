"""Names of nodes and tensors as names of other kinds, each different from the others."""

from __future__ import annotations

import re

#: What a header cannot declare: words of C and C++, and what compilers and <stdint.h> define.
_RESERVED = re.compile(
    r"alignas|alignof|and|and_eq|asm|auto|bitand|bitor|bool|break|case|catch|char|char16_t|char32_t|"
    r"char8_t|class|co_await|co_return|co_yield|compl|concept|const|const_cast|consteval|constexpr|"
    r"constinit|continue|decltype|default|delete|do|double|dynamic_cast|else|enum|explicit|export|extern|"
    r"false|float|for|friend|goto|if|inline|int|linux|long|main|mutable|namespace|new|noexcept|not|not_eq|"
    r"nullptr|operator|or|or_eq|private|protected|public|register|reinterpret_cast|requires|restrict|"
    r"return|short|signed|sizeof|static|static_assert|static_cast|struct|switch|template|this|thread_local|"
    r"throw|true|try|typedef|typeid|typename|typeof|typeof_unqual|union|unix|unsigned|using|virtual|void|"
    r"volatile|wchar_t|while|xor|xor_eq|i386|"
    r"__.*|_[A-Z].*|.*_t|U?INT\w*_(?:MAX|MIN|C|WIDTH)|(?:PTRDIFF|SIZE|SIG_ATOMIC|WCHAR|WINT)_\w+"
)


class Distinct:
    """Gives out names: the wanted one, or where that is taken the same with a number. Upper and lower case are one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def of(self, wanted: str) -> str:
        """A name that was not given out before."""
        number, name = self._next.get(wanted, 2), wanted
        while name.casefold() in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._next[wanted] = number
        self._taken.add(name.casefold())
        return name


class Identifiers:
    """Names of nodes, alone or with a role in the node, as C identifiers."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._distinct = Distinct()

    def of(self, name: str, role: str = "") -> str:
        """The identifier of `name` and `role`, always the same."""
        if (name, role) not in self._given:
            plain = re.sub(r"\W", "_", name, flags=re.ASCII)
            plain = plain if plain and not plain[0].isdigit() else f"_{plain}"
            plain = f"{plain}_{role}" if role else plain
            if _RESERVED.fullmatch(plain):
                plain = f"n_{plain}_"
            self._given[name, role] = self._distinct.of(plain)
        return self._given[name, role]
