"""What statements random models are made of, as templates. `writer.py` says what the words in braces stand for.

Each group has a weight: how often a statement is taken from it.
"""

from __future__ import annotations

from float_statements import FLOAT, FLOAT_IN_PLACE, FLOAT_MOVEMENTS, GRID

#: A quantised tensor, element by element, to a new one.
POINTWISE = """
torch.relu({a})
Q.relu6({a}, False)
F.hardtanh({a}, {low}, {high})
F.relu6({a})
torch.clamp({a}, {low}, {high})
torch.clamp({a}, min={n})
Q.clamp({a}, {low}, {high})
F.hardsigmoid({a})
torch.sigmoid({a})
Q.sigmoid({a}, {s}, {z})
torch.tanh({a})
Q.elu({a}, {s}, {z})
Q.elu({a}, {s}, {z}, 0.5, 2.0, 0.25)
Q.celu({a}, {s}, {z}, 2.0)
F.leaky_relu({a}, {slope})
Q.leaky_relu({a}, {slope}, False, {s}, {z})
Q.threshold({a}, {n}, {n})
F.threshold({a}, {n}, {n})
Q.hardswish({a}, {s}, {z})
F.gelu({a})
F.gelu({a}, approximate="tanh")
Q.add_scalar({a}, {n})
Q.add({a}, {n})
Q.add_relu({a}, {n})
Q.add_scalar_relu({a}, {n})
Q.add_scalar({a}, torch.tensor({n}))
Q.mul_scalar({a}, {n})
Q.mul({a}, {n})
Q.mul_relu({a}, {n})
Q.mul_scalar({a}, torch.tensor({n}))
Q.mul_scalar_relu({a}, {n})
Q.prelu({a}, torch.quantize_per_tensor(torch.tensor([{slope}]), 0.0078125, 3, {a}.dtype), {s}, {z})
Q.prelu({a}, torch.quantize_per_tensor({weights}, 0.0078125, 3, {a}.dtype), {s}, {z})
Q.dropout({a}, {s}, {z}, 0.5, False)
F.dropout({a}, 0.5, False)
Q.batch_norm({a}, {weights}, {weights}, {weights}, {variances}, 0.1, {s}, {z})
Q.batch_norm2d_relu({a4}, None, None, {weights}, {variances}, 0.1, {s}, {z})
torch.quantized_batch_norm({a4}, None, None, {weights}, {variances}, 0.1, {s}, {z})
torch.quantize_per_tensor({a}.dequantize(), {s}, {z}, {type})
{a} + {b}
"""

#: The same, into the tensor itself.
IN_PLACE = """
F.relu({a}, inplace=True)
{a}.relu_()
torch.relu_({a})
Q.relu6({a}, True)
Q.relu6({a}[{slice}], True)
F.relu6({a}, inplace=True)
nn.ReLU6(inplace=True)({a})
nn.Hardtanh({low}, {high}, inplace=True)({a})
F.hardtanh({a}, {low}, {high}, inplace=True)
F.hardtanh_({a}, {low}, {high})
F.hardsigmoid({a}, inplace=True)
F.hardsigmoid({a}[{slice}], inplace=True)
F.leaky_relu({a}, {slope}, inplace=True)
F.leaky_relu_({a}[{slice}], {slope})
Q.leaky_relu({a}, {slope}, True, {s}, {z})
torch.ops.aten.gelu_({a})
{a}.clamp_({low}, {high})
{a}.sigmoid_()
F.threshold({a}, {n}, {n}, inplace=True)
nn.quantized.ReLU6(inplace=True)({a})
{a}[{slice}].relu_()
{a}.select({d}, 0).relu_()
{a}.transpose({d}, {e}).relu_()
{a}.view(-1)[:3].relu_()
{a}.unsqueeze_({d})
{a}.squeeze_()
{a}.t_()
{a}.transpose_({d}, {e})
{a}.swapaxes_({d}, {e})
"""

#: Other writing into quantised tensors.
WRITES = """
{a}.copy_({b})
{a}.copy_({f})
{a}[{slice}].copy_({b}[{slice}])
{a}[{slice}] = {b}[{slice}]
{a}.fill_({n})
{a}.zero_()
{a}[{slice}].fill_({n})
{a}[{slice}] = {n}
{a}.masked_fill_(torch.tensor({bool}), {n})
{a}.masked_fill_({a}.dequantize() > {n}, {n})
{a}[{a}.dequantize() > {n}] = {n}
{a}.index_put_((torch.tensor([0]),), {b}[:1])
{a}.set_({b})
{a}.set_({b}.storage())
{a}.resize_({shape})
{a}.resize_as_({b})
{a}.as_strided_({shape}, {stride})
Q.add_out({a}, {b}, {a})
Q.add_out({b}, {a}, {a})
Q.add_relu_out({a}, {b}, {b})
Q.mul_out({a}, {b}, {b})
Q.mul_relu_out({a}, {b}, {a})
Q.add_scalar_out({a}, {n}, {a})
Q.add_scalar_out({a}, {n}, {b})
Q.mul_scalar_out({a}, {n}, {a})
Q.mul_scalar_relu_out({a}, {n}, {b})
Q.add.out({a}, {b}, {a})
torch.cat([{a}, {b}], {d}, out={b})
Q.cat_out([{a}], {d}, {b})
torch._C._nn.hardtanh({a}, {low}, {high}, out={b})
torch.mean({a}, [{d}], out={b})
torch.index_select({a}, {d}, torch.tensor([0, 0]), out={b})
"""

#: Two tensors or more.
BINARY = """
Q.add({a}, {b}, {s}, {z})
Q.add({a}, {b}, {s}, {z})
Q.add_relu({a}, {b}, {s}, {z})
Q.add({a}, {a}, {s}, {z})
Q.mul({a}, {b}, {s}, {z})
Q.mul_relu({a}, {b}, {s}, {z})
Q.add({a}, {a}[{slice}], {s}, {z})
Q.mul({a}[{slice}], {a}, {s}, {z})
Q.add({a}, {a}.transpose({d}, {d}), {s}, {z})
Q.add({a3}, {a3}.transpose(1, 2), {s}, {z})
Q.matmul({a}, {b}.transpose(-1, -2), {s}, {z})
Q.matmul({a}, {b}, {s}, {z})
Q.cat([{a}, {b}], {d}, {s}, {z})
Q.cat([{a}, {b}, {a}], {d}, None, None)
Q.cat_relu([{a}, {b}], {d}, {s}, {z})
Q.cat([{a}[{slice}], {a}], 0, {s}, {z})
torch.cat([{a}, {b}], {d})
torch.cat([{a}, {a}], {d})
torch.stack([{a}, {b}], {d})
torch.add({a}, {b})
torch.where(torch.tensor({bool}), {a}, {b})
torch.maximum({a}, {b})
"""

#: Movements: views and copies.
MOVEMENTS = """
{a}.view({shape})
{a}.reshape({shape})
{a}.reshape(-1)
{a}.permute({perm})
{a}.transpose({d}, {e})
{a}.flatten(1)
{a}.flatten()
{a}[{slice}]
{a}.select({d}, {index})
{a}.narrow({d}, {index}, 1)
{a}.unsqueeze({d})
{a}.squeeze()
{a}.squeeze({d})
{a}.chunk(2, {d})[-1]
{a}.split(1, {d})[0]
{a}.unbind({d})[0]
{a}.tensor_split(2, {d})[0]
{a}.unsqueeze(0).expand(2, *{a}.shape)
{a}.repeat(*([2] * {a}.dim()))
{a}.repeat_interleave(2, {d})
torch.tile({a}, (2,))
{a}.roll(1, {d})
{a}.flip([{d}])
torch.rot90({a}, 1, [{d}, {e}])
{a}.index_select({d}, torch.tensor([{index}, 0]))
{a}[torch.tensor([0, {index0}])]
{a}[:, [0, 0]]
{a}.gather({d}, torch.zeros({a}.shape, dtype=torch.long))
{a}.take_along_dim(torch.zeros({a}.shape, dtype=torch.long), {d})
{a}.clone()
{a}.clone(memory_format=torch.contiguous_format)
{a}.contiguous()
{a4}.contiguous(memory_format=torch.channels_last)
{a4}.to(memory_format=torch.channels_last)
{a4}.clone(memory_format=torch.channels_last)
{a}.detach()
{a}.data
{a}.view_as({a})
{a}.expand_as({a})
{a}.as_strided({shape}, {stride})
{a}.unfold({d}, 1, 1)
{a}.unfold({d}, 2, 1)
{a}.diagonal()
{a}.movedim(0, -1)
{a}.swapaxes({d}, {e})
{a}.ravel()
{a}.unflatten({d}, (1, -1))
{a}.t()
{a}.mT
torch.atleast_3d({a})
F.pad({a}, (1, 1))
F.pad({a}, (1, 0), value={n})
F.pad({a4}, (1, 0, 0, 1), value={n})
F.pad({a4}, (1, 0, 0, 1), mode="reflect")
F.pad({a}, (-1, 0))
F.pixel_shuffle({a4}, 2)
F.pixel_unshuffle({a4}, 2)
torch.channel_shuffle({a4}, 2)
F.interpolate({a4}, scale_factor=2)
F.interpolate({a4}, size=(3, 5))
F.interpolate({a4}, size=(3, 5), mode="nearest-exact")
F.interpolate({a4}, scale_factor=2, mode="bilinear")
F.interpolate({a4}, size=(3, 2), mode="bilinear", align_corners=True)
F.unfold({a4}, 2)
torch.empty_like({a}).copy_({a})
torch.zeros_like({a})
{a}.new_empty({a}.shape)
{a}.alias() if hasattr({a}, "alias") else {a}
torch.ops.aten.alias({a})
torch.ops.aten.view_copy({a}, [-1])
"""

#: Pools, means, norms and the like.
WINDOWS = """
F.max_pool2d({a4}, 2)
F.max_pool2d({a4}, {k}, 1, {pad})
F.max_pool2d({a4}, 2, 1, 0, 2)
F.max_pool2d({a4}, 2, 2, 0, ceil_mode=True)
F.max_pool1d({a3}, 2)
F.max_pool3d({a5}, 2)
F.avg_pool2d({a4}, {k})
F.avg_pool2d({a4}, 2, 1, 1)
F.avg_pool2d({a4}, 3, 2, 1, False, False)
F.avg_pool2d({a4}, 2, ceil_mode=True)
F.avg_pool2d({a4}, 2, divisor_override=3)
F.avg_pool1d({a3}, 2)
F.avg_pool3d({a5}, 2)
F.adaptive_avg_pool2d({a4}, 1)
F.adaptive_avg_pool2d({a4}, ({k}, 2))
F.adaptive_avg_pool3d({a5}, 1)
F.adaptive_avg_pool1d({a3}, 1)
F.adaptive_max_pool2d({a4}, 1)
{a}.mean({d})
{a4}.mean([2, 3])
{a4}.mean([2, 3], keepdim=True)
{a}.mean()
{a}.std({d})
{a}.max()
{a}.max({d})[0]
{a}.min({d})[0]
{a}.amax({d})
{a}.sort({d})[0]
{a}.topk(1, {d})[0]
{a}.sum({d})
Q.layer_norm({a}, {a}.shape[-1:], None, None, 1e-05, {s}, {z})
Q.layer_norm({a}, {a}.shape[-2:], None, None, 1e-05, {s}, {z})
Q.group_norm({a}, 1, None, None, 1e-05, {s}, {z})
Q.group_norm({a4}, 1, {weights}, {weights}, 1e-05, {s}, {z})
Q.instance_norm({a4}, {weights}, {weights}, 1e-05, {s}, {z})
Q.softmax({a}, {d}, {s}, {z})
Q.softmax({a}, {d}, 0.00390625, 0)
F.grid_sample({a4}, torch.zeros(1, 2, 2, 2))
"""

#: Convolutions and linear layers; {linear}, {conv} and {transposed} are packed before the function.
MATRIX = """
Q.linear({a}, {linear}, {s}, {z})
Q.linear({a2}, {linear}, {s}, {z})
Q.linear_relu({a}, {linear}, {s}, {z})
Q.linear_leaky_relu({a}, {linear}, {s}, {z}, 0.25)
Q.linear_tanh({a}, {linear}, {s}, {z})
Q.linear_dynamic({a}.dequantize(), {linear})
Q.conv2d({a4}, {conv}, {s}, {z})
Q.conv2d({a4}, {conv}, {s}, {z})
Q.conv2d_relu({a4}, {conv}, {s}, {z})
Q.conv2d_add({a4}, Q.conv2d({a4}, {conv}, 0.5, 7), {conv}, {s}, {z})
Q.conv1d({a3}, {conv}, {s}, {z})
Q.conv1d_relu({a3}, {conv}, {s}, {z})
Q.conv3d({a5}, {conv}, {s}, {z})
Q.conv_transpose2d({a4}, {transposed}, {s}, {z})
Q.conv_transpose1d({a3}, {transposed}, {s}, {z})
"""

#: From float back to codes.
QUANTIZE = """
torch.quantize_per_tensor({f}, {s}, {z}, {type})
torch.quantize_per_tensor({f}, {s}, {z}, {type})
torch.quantize_per_tensor({f}, {s}, {z}, {type})
torch.quantize_per_tensor({f}, torch.tensor({s}), torch.tensor({z}), {type})
torch.quantize_per_tensor([{f}, {g}], torch.tensor([{s}, {s}]), torch.tensor([{z}, {z}]), {type})[0]
torch._empty_affine_quantized({f}.shape, scale={s}, zero_point={z}, dtype={type}).copy_({f})
"""

#: Numbers that are taken from data, and integers.
DATA = """
torch.quantize_per_tensor({f}, float({f}.abs().max()) / 127 + 0.01, {z}, {type})
torch.quantize_per_tensor({f}, {f}.abs().max() / 127 + 0.01, torch.tensor({z}), {type})
torch.quantize_per_tensor({f}, {s}, int({f}.abs().max()) % 100, {type})
torch.quantize_per_tensor_dynamic({f}, {type}, False)
{f} * {f}.max().item()
{f} + float({f}.reshape(-1)[0])
{a} if bool(({f} > {n}).any()) else {b}
torch.relu({a}) if {a}.dequantize().sum() > 0 else {a}
{a}[: 1 + int({a}.int_repr().reshape(-1)[0]) % 2]
{a}.index_select({d}, {a}.dequantize().sum({e}).argmax().reshape(1))
{a}[{a}.dequantize().reshape(-1).argmax() % {a}.shape[0]]
Q.add({a}, {f}.max().item(), )
{a}.reshape(-1)[: len({f}.nonzero())]
Q.clamp({a}, 0.0, {f}.max().item())
torch._make_per_tensor_quantized_tensor({a}.int_repr(), {a}.q_scale(), {a}.q_zero_point())
torch._make_per_tensor_quantized_tensor({a}.int_repr(), {s}, {z})
torch.quantize_per_tensor({a}.int_repr().float(), {s}, {z}, {type})
torch.quantize_per_tensor(torch.from_numpy({f}.numpy()), {s}, {z}, {type})
torch.quantize_per_tensor(torch.tensor({f}.tolist()), {s}, {z}, {type})
torch.quantize_per_tensor({f} + torch.rand(()), {s}, {z}, {type})
torch.quantize_per_tensor({f} + torch.rand_like({f}), {s}, {z}, {type})
torch.quantize_per_tensor(F.dropout({f}, 0.5, True), {s}, {z}, {type})
torch.quantize_per_tensor(F.rrelu({f}, 0.1, 0.9, True), {s}, {z}, {type})
torch.quantize_per_tensor(torch.bernoulli(torch.sigmoid({f})), {s}, {z}, {type})
torch.quantize_per_tensor({f}.clone().normal_(), {s}, {z}, {type})
Q.dropout({a}, {s}, {z}, 0.5, True)
torch.quantize_per_tensor({constant}.copy_({f}), {s}, {z}, {type})
torch.quantize_per_tensor({constant} + {f}, {s}, {z}, {type})
torch.quantize_per_tensor({constant}.add_({f}), {s}, {z}, {type})
torch.quantize_per_tensor(torch.zeros({f}.shape).add_({f}), {s}, {z}, {type})
torch.quantize_per_tensor(torch.zeros({f}.shape).copy_({f}), {s}, {z}, {type})
torch.quantize_per_tensor(torch.full({f}.shape, {n}), {s}, {z}, {type})
torch.quantize_per_tensor(constant({i}, {a}.shape), {a}.q_scale(), {a}.q_zero_point(), {a}.dtype)
"""

_GROUPS = (
    (POINTWISE, 5, "pointwise"),
    (IN_PLACE, 4, "in place"),
    (WRITES, 1.5, "writes"),
    (BINARY, 4, "binary"),
    (MOVEMENTS, 5, "movements"),
    (WINDOWS, 2.5, "windows"),
    (MATRIX, 2.5, "matrix"),
    (FLOAT, 3, "float"),
    (FLOAT_IN_PLACE, 1.5, "float in place"),
    (FLOAT_MOVEMENTS, 0.7, "float movements"),
    (QUANTIZE, 2, "quantize"),
    (DATA, 0.7, "data"),
)
GROUPS: dict[str, tuple[str, ...]] = {name: tuple(text.strip().splitlines()) for text, _, name in _GROUPS}
GROUPS["grid"] = tuple(GRID.strip().splitlines())
WEIGHTS: dict[str, float] = {name: weight for _, weight, name in _GROUPS}
#: Those of a torch.export graph.
EXPORTED: dict[str, float] = {"grid": 4, "float": 3, "float in place": 1.5, "float movements": 1}
