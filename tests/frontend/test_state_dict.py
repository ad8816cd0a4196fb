"""A bare state_dict: every type that PyTorch saves is read or named, nothing is executed, small files cost little."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao import quantization

from accelsim.errors import FormatError
from accelsim.frontend.archive import EXPORTED, SCRIPT, STATE_DICT, archive_kind
from accelsim.frontend.state_dict import StateDict, read_state_dict

from .checkpoints import archive, checkpoint, entries, number, quantized, saved, tensor

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


def read(path: Path, content: Any) -> StateDict:
    torch.save(content, path)
    return read_state_dict(path)


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
def test_a_quantised_models_state_dict_gives_its_integers(engine: str, tmp_path: Path) -> None:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        model = nn.Sequential(quantization.QuantStub(), nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(12, 5))
        model.qconfig = quantization.get_default_qconfig(engine)
        quantization.prepare(model, inplace=True)
        model(torch.randn(4, 1, 3, 3))
        quantization.convert(model.eval(), inplace=True)
    finally:
        torch.backends.quantized.engine = before
    arrays = read(tmp_path / "m.pth", {"model": model.state_dict(), "epoch": 3}).arrays
    for layer in ("1", "3"):
        weight, bias = model[int(layer)]._weight_bias()
        assert np.array_equal(arrays[f"model.{layer}.weight"], weight.int_repr().numpy())
        scale = weight.q_per_channel_scales().numpy() if engine == "fbgemm" else [weight.q_scale()]
        assert np.array_equal(arrays[f"model.{layer}.weight.scale"], scale)
        assert arrays[f"model.{layer}.weight.zero_point"].dtype == np.int32
        assert np.array_equal(arrays[f"model.{layer}.bias"], bias.detach().numpy())
        assert arrays[f"model.{layer}.zero_point"] == model[int(layer)].zero_point


WIDENED = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
PLAIN = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("name", [*WIDENED, *PLAIN, "complex64", "complex128"])
def test_every_bit_pattern_of_a_type_is_the_value_that_pytorch_reads(name: str, tmp_path: Path) -> None:
    dtype = getattr(torch, name)
    patterns = torch.randint(0, 256, (64 * dtype.itemsize,), dtype=torch.uint8)
    if dtype.itemsize == 1:
        patterns = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    values = patterns.view(dtype).reshape(2, -1)
    content = read(tmp_path / "x.pt", {"whole": values, "part": values.t()[1:]})
    expected = values.to(torch.float32) if name in WIDENED else values
    assert [entry.dtype for entry in content.entries] == [name, name]
    np.testing.assert_array_equal(content.arrays["whole"], expected.numpy())
    np.testing.assert_array_equal(content.arrays["part"], expected.t()[1:].numpy())


def test_halves_of_complex_numbers_and_what_is_only_marked_as_conjugated(tmp_path: Path) -> None:
    halves = torch.tensor([1.5, -2.0, 0.25, 3.0], dtype=torch.float16).view(torch.complex32)
    z = torch.tensor([1 + 2j, 3 - 4j])
    arrays = read(tmp_path / "x.pt", {"c32": halves, "conj": z.conj()}).arrays
    assert arrays["c32"].tolist() == [1.5 - 2j, 0.25 + 3j]
    assert arrays["conj"].tolist() == [1 - 2j, 3 + 4j]
    assert read(tmp_path / "x.pt", {"neg": z.conj().imag}).arrays["neg"].tolist() == [-2.0, 4.0]


def test_codes_of_32_8_and_4_bits_and_real_zero_points(tmp_path: Path) -> None:
    wide = torch.quantize_per_tensor(torch.tensor([1.0, -70000.0]), 0.5, 3, torch.qint32)
    scales, points = torch.tensor([1.0, 0.5]), torch.tensor([0.5, 0.25])
    real = torch.quantize_per_channel(torch.tensor([[0.0, 4.0, 9.0], [1.0, 2.0, 3.0]]), scales, points, 0, torch.quint8)
    packed = torch.quantize_per_channel(torch.tensor([[0.0, 7, 15], [1, 2, 3]]), scales, points * 0, 0, torch.quint4x2)
    arrays = read(tmp_path / "x.pt", {"wide": wide, "real": real, "packed": packed}).arrays
    assert arrays["wide"].tolist() == [5, -139997]
    assert (arrays["wide.scale"].tolist(), arrays["wide.zero_point"].tolist()) == ([0.5], [3])
    assert arrays["real"].tolist() == real.int_repr().tolist()
    assert arrays["real.zero_point"].tolist() == [0.5, 0.25]
    assert arrays["packed"].tolist() == [[0, 7, 15], [2, 4, 6]]


def test_what_has_no_array_is_an_entry_with_its_reason(tmp_path: Path) -> None:
    content = read(
        tmp_path / "x.pt",
        {
            "sparse": torch.eye(3).to_sparse(),
            "rows": torch.eye(3).to_sparse_csr(),
            "meta": torch.zeros(3, device="meta"),
            "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
            "huge": torch.zeros(1).expand(10**12),
            "epoch": 3,
            "optimizer": {"state": [torch.ones(2)], "groups": [1, 2]},
            "numpy": np.zeros(2),
            "empty": torch.zeros(3, 0, 2),
            "parameter": nn.Parameter(torch.ones(2)),
            "buffer": nn.Buffer(torch.ones(2)),
            "flag": torch.tensor(True),
        },
    )
    reasons = {entry.key: entry.reason for entry in content.entries if entry.array is None}
    assert set(reasons) == {"sparse", "rows", "meta", "nested", "huge", "epoch", "optimizer.groups", "numpy"}
    assert {entry.key for entry in content.unread} == {"sparse", "rows", "meta", "nested", "huge"}
    for key, said in {
        "sparse": "to_dense",
        "meta": "no data",
        "huge": "4,000,000,000,000 bytes",
        "epoch": "int",
    }.items():
        assert said in reasons[key]
    arrays = content.arrays
    assert arrays["empty"].shape == (3, 0, 2)
    assert arrays["optimizer.state.0"].tolist() == arrays["parameter"].tolist() == arrays["buffer"].tolist() == [1, 1]
    assert arrays["flag"].tolist() is True


def test_kinds_of_archives_are_known_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    torch.jit.script(nn.ReLU()).save(str(path))
    assert archive_kind(path) == SCRIPT
    path.write_bytes(archive({"x/archive_format": b"pt2", "x/data/weights/model.pt": b""}))  # torch.export.save's
    assert archive_kind(path) == EXPORTED
    torch.save({}, path)
    assert archive_kind(path) == STATE_DICT
    path.write_bytes(archive({"a/b": b""}))
    assert archive_kind(path) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (nn.Linear(2, 2), "holds a torch.nn.modules.linear.Linear, not a state_dict"),
        ([1, 2], "holds a list"),
        ({"epoch": 3}, "no tensors"),
        (torch.ones(2), "not a state_dict"),
        ({(1, 2): torch.ones(2)}, "a key that is a tuple"),
        ({1: torch.ones(2), "1": torch.ones(2)}, "two entries of this name"),
        ({"x" * 1001: torch.ones(2)}, "a key of 1,001 characters"),
    ],
)
def test_what_is_no_state_dict_is_said(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=said.replace("(", r"\(")) as caught:
        read(tmp_path / "x.pt", content)
    assert str(tmp_path) in str(caught.value)


def test_dicts_that_hold_one_another_without_end_are_refused(tmp_path: Path) -> None:
    circle: dict[str, Any] = {"x": torch.ones(1)}
    circle["again"] = circle
    doubled: dict[str, Any] = {"x": torch.ones(1)}
    for _ in range(18):
        doubled = {"a": doubled, "b": doubled}
    for content in (circle, doubled):
        with pytest.raises(FormatError, match=r"again and again|deep"):
            read(tmp_path / "x.pt", content)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    touch = b"cpathlib\nPath\n(X" + len(str(mark)).to_bytes(4, "little") + str(mark).encode() + b"tR"
    for pickled in (touch, b"cos\nsystem\n(X\x04\0\0\0truetR", b"cposix\n_exit\n(K\x00tR"):
        with pytest.raises(FormatError, match="no tensors"):
            read_state_dict(checkpoint(tmp_path / "x.pt", pickled))
    assert not mark.exists()


HOSTILE = {
    "a shape past its storage": tensor(4, 0, (1 << 28,), (1,)),
    "an offset past its storage": tensor(4, 4, (1,), (1,)),
    "strides past its storage": tensor(4, 0, (2, 2), (1 << 40, 1)),
    "a negative stride": tensor(4, 0, (2,), (-1,)),
    "a negative size": tensor(4, 0, (-2,), (1,)),
    "a shape of 2**62": tensor(4, 0, (1 << 31, 1 << 31), (0, 0)),
    "no elements, and 2**62 beside": tensor(4, 0, (0, 1 << 62, 1 << 62), (0, 0, 0)),
    "fewer strides than sizes": tensor(4, 0, (2, 2), (1,)),
    "a storage that says it is longer": tensor(1 << 40, 0, (4,), (1,)),
    "quantised, a shape past its storage": quantized((1 << 40,), (1,)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_lies_about_shapes_are_found_before_anything_is_made(what: str, tmp_path: Path) -> None:
    length = 4 if what.startswith("quantised") else 16
    with pytest.raises(FormatError, match="k: a damaged tensor"):
        read_state_dict(checkpoint(tmp_path / "x.pt", HOSTILE[what], {"0": bytes(length)}))


def test_the_honest_forms_of_the_same_are_read(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.pt", tensor(4, 1, (3,), (1,)), {"0": np.arange(4, dtype=np.float32).tobytes()})
    assert read_state_dict(path).arrays["k"].tolist() == [1, 2, 3]
    path = checkpoint(tmp_path / "x.pt", quantized((2, 2), (1, 2)), {"0": bytes([1, 2, 3, 255])})
    assert read_state_dict(path).arrays["k"].tolist() == [[1, 3], [2, -1]]


def test_archives_that_grow_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    honest = entries(saved({"a": torch.zeros(50_000_000 // 4)}))
    path.write_bytes(archive(honest, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 100_000
    with pytest.raises(FormatError, match="compressed"):
        read_state_dict(path)
    file = bytearray(saved({"a": torch.zeros(2)}))
    with zipfile.ZipFile(path, "w") as again:
        for _ in range(2):
            again.writestr("a/data.pkl", b"\x80\x02}.")
    with pytest.raises(FormatError, match="two entries"):
        read_state_dict(path)
    # All entries but the first begin where the first does.
    where = [i for i in range(len(file)) if file[i : i + 4] == b"PK\x01\x02"]
    for start in where[1:]:
        file[start + 42 : start + 46] = file[where[0] + 42 : where[0] + 46]
    path.write_bytes(file)
    with pytest.raises(FormatError, match=r"x\.pt"):
        read_state_dict(path)


def test_a_flipped_bit_in_the_data_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    file = bytearray(saved({"a": torch.full((4,), 1.5)}))
    file[file.index(np.full(4, 1.5, np.float32).tobytes()) + 3] ^= 1
    path.write_bytes(file)
    with pytest.raises(FormatError, match="damaged"):
        read_state_dict(path)


BOMB = """
import resource, sys, time
import numpy
from accelsim.errors import FormatError
from accelsim.frontend.state_dict import read_state_dict
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    read_state_dict(sys.argv[1])
except FormatError:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start)
"""


def shared_tuples() -> bytes:
    """A tuple of tuples of tuples: as a key, it would take 2**200 steps to hash."""
    doubling = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(200))
    return b"}K\x01\x85" + doubling + b"K\x01s"


BOMBS = {
    "a bytearray of 10**10": b"c__builtin__\nbytearray\n" + number(10**10) + b"\x85R",
    "a tensor of 10**10": b"ctorch\nFloatTensor\n" + number(10**10) + b"\x85R",
    "a memo of 2**31": b"Nr" + (2**31 - 1).to_bytes(4, "little"),
    "a key of shared tuples": shared_tuples(),
    "nested lists": b"]" * 45_000 + b"a" * 44_999,
    "one element, a million times, a thousand times": b"]("
    + b"q\x00"
    + tensor(4, 0, (1000, 1000), (0, 0))
    + b"q\x01"
    + b"h\x01" * 1000
    + b"e",
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_small_file_costs_little(what: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.pt", BOMBS[what], {"0": bytes(16)})
    assert path.stat().st_size < 100_000
    command = [sys.executable, "-c", BOMB, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    kilobytes, seconds = map(float, done.stdout.split())
    assert kilobytes < 500_000
    assert seconds < 5
