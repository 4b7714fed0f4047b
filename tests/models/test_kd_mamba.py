"""Tests of KD-Mamba; those with the fixture `model` are the contract that the teacher shares."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hloc_ext.models.dual_softmax import Descriptors, Matches, assign
from hloc_ext.models.kd_mamba import (
    KDMAMBA_CONFIGS,
    ImageFeatures,
    JointScan,
    KDMamba,
    PairFeatures,
    cell_centres,
    exchange_cross,
    into_sequences,
    normalize,
    orientation,
    out_of_sequences,
    upsample,
    window_positions,
)
from tests.models.networks import texture, tiny_network

Output = dict[str, Tensor]
NETWORK = tiny_network()  # read only


@pytest.fixture(scope="module", params=["kd_mamba", "aerial", "teacher"])
def model(request: pytest.FixtureRequest) -> KDMamba:
    return tiny_network(request.param)


@pytest.fixture(scope="module")
def model64(model: KDMamba) -> KDMamba:
    """The network in float64: two fine peaks of random features can be equal but for rounding to float32."""
    return copy.deepcopy(model).double()


@torch.no_grad()
def match_all(
    model: KDMamba, image0: Tensor, image1: Tensor, mask0: Tensor | None = None, mask1: Tensor | None = None
) -> Output:
    """Every mutual match, however improbable: random weights give few probable ones."""
    pair = model.describe(model.encode(image0, mask0), model.encode(image1, mask1))
    return model.match(*pair, min_probability=0.0)


def texture64(*args: int, **kwargs: int) -> Tensor:
    return texture(*args, **kwargs).double()


def assert_equal_matches(actual: Output, expected: Output, least: int = 15) -> None:
    assert len(expected["scores"]) >= least
    assert actual["batch_indexes"].tolist() == expected["batch_indexes"].tolist()
    torch.testing.assert_close(actual["scores"], expected["scores"], rtol=1e-6, atol=1e-9)
    for key in ("keypoints0", "keypoints1"):
        torch.testing.assert_close(actual[key], expected[key], rtol=0, atol=1e-6)


def exchanged(matches: Output) -> Output:
    """Matches of the exchanged images as a call with them would order them."""
    cells = (matches["keypoints1"] / 8).round().long()
    order = (matches["batch_indexes"] * 10**8 + cells[:, 1] * 10**4 + cells[:, 0]).argsort()
    names = {"keypoints0": "keypoints1", "keypoints1": "keypoints0"}
    return {key: matches[names.get(key, key)][order] for key in matches}


# --- size and cost


def count_macs(model: KDMamba, height: int, width: int) -> tuple[float, float]:
    """10⁹ multiplications of a pair: of the backbone, and with the product of all descriptors."""
    images = torch.empty(2, 1, 1, height, width, device="meta")
    model = model.to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as backbone:
        first, second = model.describe(model.encode(images[0]), model.encode(images[1]))
    macs = backbone.get_total_flops() / 2
    product = first.coarse.vectors.shape[1] * second.coarse.vectors.numel()
    return macs / 1e9, (macs + product) / 1e9


@pytest.mark.parametrize(
    ("name", "most_parameters", "most_macs"), [("nano", 0.5e6, 4.5), ("small", 1.5e6, 12.0)]
)
def test_size_and_cost_at_640_by_480(name, most_parameters, most_macs):
    model = KDMamba(KDMAMBA_CONFIGS[name])
    assert sum(p.numel() for p in model.parameters()) <= most_parameters
    assert count_macs(model, 480, 640)[1] <= most_macs


@pytest.mark.parametrize("name", ["nano", "small"])
def test_twice_the_tokens_cost_the_backbone_twice(name):
    model = KDMamba(KDMAMBA_CONFIGS[name])
    for height, width in ((240, 320), (480, 640), (960, 1280), (1920, 1280)):
        ratio = count_macs(model, 2 * height, width)[0] / count_macs(model, height, width)[0]
        assert 1.8 < ratio <= 2.2


# --- the matcher as a whole


@pytest.mark.parametrize(
    ("size0", "size1"), [((64, 80), (64, 80)), ((64, 80), (40, 104)), ((57, 83), (75, 41))]
)
def test_exchanged_images_give_exchanged_matches(model64, size0, size1):
    image0, image1 = texture64(0, *size0, batch=2), texture64(1, *size1, batch=2)
    forward, backward = match_all(model64, image0, image1), match_all(model64, image1, image0)
    assert_equal_matches(exchanged(backward), forward)
    pair = model64.describe(model64.encode(image0), model64.encode(image1))
    for first, second in (pair, pair[::-1]):
        forward = model64.match(first, second, min_probability=0.0, moves="image1")
        backward = model64.match(second, first, min_probability=0.0, moves="image0")
        assert_equal_matches(exchanged(backward), forward)


@pytest.mark.parametrize(("pad0", "pad1"), [((0, 0), (24, 40)), ((7, 3), (0, 0)), ((9, 16), (33, 5))])
def test_padding_does_not_change_matches(model64, pad0, pad1):
    images = texture64(0, 59, 85), texture64(1, 64, 72)
    padded, masks = [], []
    for image, (bottom, right) in zip(images, (pad0, pad1), strict=True):
        padded.append(F.pad(image, (0, right, 0, bottom), value=3.0))  # not a grey value of the image
        masks.append(F.pad(torch.ones_like(image, dtype=torch.bool), (0, right, 0, bottom)))
    with torch.no_grad():
        expected = model64.describe(model64.encode(images[0]), model64.encode(images[1]))
        actual = model64.describe(*(model64.encode(p, mask) for p, mask in zip(padded, masks, strict=True)))
    for mine, other in zip(expected, actual, strict=True):
        rows, columns = mine.fine.shape[2:]
        torch.testing.assert_close(other.fine[..., :rows, :columns], mine.fine, rtol=0, atol=1e-4)
        tokens = [f.tokens.unflatten(1, f.grid)[:, : mine.grid[0], : mine.grid[1]] for f in (mine, other)]
        torch.testing.assert_close(tokens[1], tokens[0], rtol=0, atol=1e-4)
        assert other.coarse.log_matchability.isfinite().sum() == tokens[0][..., 0].numel()
    assert_equal_matches(match_all(model64, *padded, *masks), match_all(model64, *images))


def test_images_of_different_size_in_one_batch(model64):
    """Padded to one size with masks, each pair gives what it gives alone."""
    sizes0, sizes1 = [(64, 80), (40, 56)], [(48, 48), (61, 79)]
    batches, masks = [], []
    for seed, sizes in enumerate((sizes0, sizes1)):
        batch, mask = (
            torch.zeros(2, 1, 64, 80, dtype=torch.float64),
            torch.zeros(2, 1, 64, 80, dtype=torch.bool),
        )
        for i, (height, width) in enumerate(sizes):
            batch[i, :, :height, :width] = texture64(10 * seed + i, height, width)[0]
            mask[i, :, :height, :width] = True
        batches.append(batch)
        masks.append(mask)
    together = match_all(model64, *batches, *masks)
    for i in range(2):
        alone = match_all(model64, texture64(i, *sizes0[i]), texture64(10 + i, *sizes1[i]))
        mine = together["batch_indexes"] == i
        of_pair = {key: value[mine] for key, value in together.items()}
        of_pair["batch_indexes"] = of_pair["batch_indexes"] - i
        assert_equal_matches(of_pair, alone, least=8)


def test_pairs_of_a_batch_are_those_matched_alone(model64):
    image0, image1 = texture64(0, 64, 80, batch=3), texture64(1, 72, 64, batch=3)
    together = match_all(model64, image0, image1)
    alone = [match_all(model64, image0[i : i + 1], image1[i : i + 1]) for i in range(3)]
    expected = {key: torch.cat([output[key] for output in alone]) for key in alone[0]}
    expected["batch_indexes"] = torch.cat([output["batch_indexes"] + i for i, output in enumerate(alone)])
    assert_equal_matches(together, expected)


@torch.no_grad()
def test_forward_is_encode_describe_match(model):
    image = texture(0, 64, 80, batch=2)
    output = model(image, image)
    encoded = model.encode(image)
    expected = model.match(*model.describe(encoded, encoded))
    assert len(output["scores"]) >= 2
    for key in output:
        assert torch.equal(output[key], expected[key])
    assert output["keypoints0"].dtype == output["keypoints1"].dtype == output["scores"].dtype == torch.float32


@torch.no_grad()
def test_masks_of_ones_change_nothing(model64):
    image0, image1 = texture64(0, 64, 80, batch=2), texture64(1, 64, 80, batch=2)
    mask = torch.ones_like(image0, dtype=torch.bool)
    assert_equal_matches(match_all(model64, image0, image1, mask, mask), match_all(model64, image0, image1))


@pytest.mark.parametrize("size0", [(1, 1), (8, 8), (5, 17), (32, 32), (9, 64)])
@pytest.mark.parametrize("size1", [(1, 1), (32, 32), (40, 24)])
@torch.no_grad()
def test_tiny_images(model, size0, size1):
    output = match_all(model, texture(0, *size0), texture(1, *size1))
    assert all(value.isfinite().all() for value in output.values())
    assert 1 <= len(output["scores"]) <= -(-size0[0] // 8) * -(-size0[1] // 8)
    model(texture(0, *size0), texture(1, *size1))


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
@torch.no_grad()
def test_constant_images_give_no_nan(model, grey):
    constant = torch.full((1, 1, 48, 64), grey)
    for image0, image1 in (
        (constant, constant),
        (constant, texture(0, 64, 48)),
        (texture(0, 64, 48), constant),
    ):
        first, second = model.describe(model.encode(image0), model.encode(image1))
        for features in (first, second):
            assert features.tokens.isfinite().all() and features.fine.isfinite().all()
            assert (
                features.coarse.vectors.isfinite().all() and features.coarse.log_matchability.isfinite().all()
            )
        output = model.match(first, second, min_probability=0.0)
        assert all(value.isfinite().all() for value in output.values())


@torch.no_grad()
def test_an_image_without_pixels_gives_no_matches(model):
    image, nothing = texture(0, 48, 64), torch.zeros(1, 1, 48, 64, dtype=torch.bool)
    everything = torch.ones_like(nothing)
    for masks in ((nothing, everything), (everything, nothing), (nothing, nothing)):
        assert len(model(image, image, *masks)["scores"]) == 0


@torch.no_grad()
def test_contrast_and_brightness_do_not_matter(model):
    """Images are normalised; only the constant 0.001 beside the standard deviation remains."""
    image0, image1 = texture(0, 64, 80), texture(1, 64, 80)
    expected = model.describe(model.encode(image0), model.encode(image1))[0]
    actual = model.describe(model.encode(0.2 + 0.5 * image0), model.encode(image1))[0]
    torch.testing.assert_close(actual.coarse.vectors, expected.coarse.vectors, rtol=0, atol=0.05)


@torch.no_grad()
def test_bfloat16_stays_near_float32(model):
    image0, image1 = texture(0, 64, 80), texture(1, 64, 80)
    expected = model.describe(model.encode(image0), model.encode(image1))
    with torch.autocast("cpu", torch.bfloat16):
        actual = model.describe(model.encode(image0), model.encode(image1))
        assert all(value.isfinite().all() for value in model.match(*actual, min_probability=0.0).values())
    for mine, reference in zip(actual, expected, strict=True):
        assert F.cosine_similarity(mine.coarse.vectors, reference.coarse.vectors, dim=-1).min() > 0.98
        assert F.cosine_similarity(mine.fine.float(), reference.fine, dim=1).min() > 0.9
        assert mine.coarse.vectors.dtype == mine.coarse.log_matchability.dtype == torch.float32


def test_every_parameter_has_a_gradient(model):
    model.zero_grad()
    first, second = model.describe(model.encode(texture(0, 64, 80)), model.encode(texture(1, 64, 80)))
    index = torch.arange(20)
    fine = model.fine_log_probability(first, second, torch.zeros_like(index), index, index)
    log_p = assign(first.coarse, second.coarse, model.scales[0]).log_probability(0 * index, index, index)
    loss = log_p.square().mean() + fine.square().mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    model.zero_grad()


@torch.no_grad()
def test_tokens_know_the_other_image(model):
    image, other = model.encode(texture(0, 64, 80)), [model.encode(texture(i, 64, 80)) for i in (1, 2)]
    with_first, with_second = (model.describe(image, features)[0].tokens for features in other)
    assert (with_first - with_second).abs().amax(-1).min() > 1e-6  # every one of them


# --- encoder


def test_normalize():
    image = texture(0, 20, 30, batch=2)
    normalized = normalize(image, None)
    torch.testing.assert_close(normalized.mean((2, 3)), torch.zeros(2, 1), rtol=0, atol=1e-5)
    deviation = image.std((2, 3), correction=0)
    torch.testing.assert_close(normalized.std((2, 3), correction=0), deviation / (deviation + 1e-3))
    mask = torch.zeros_like(image, dtype=torch.bool)
    mask[:, :, :15, :22] = True
    masked = normalize(image, mask)
    torch.testing.assert_close(masked[:, :, :15, :22], normalize(image[:, :, :15, :22], None))
    assert (masked[~mask] == 0).all()
    assert (normalize(torch.full((1, 1, 4, 4), 0.3), None).abs() < 1e-3).all()


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2, 2.5])
def test_orientation_has_the_doubled_angle_of_the_gradient(angle: float):
    direction = torch.tensor([math.cos(angle), math.sin(angle)])
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    ramp = (columns * direction[0] + rows * direction[1])[None, None]
    inner = orientation(ramp, None)[0, :, 5:-5, 5:-5]
    expected = torch.tensor([math.cos(2 * angle), math.sin(2 * angle)])
    torch.testing.assert_close(F.normalize(inner, dim=0), expected[:, None, None].expand_as(inner))
    torch.testing.assert_close(orientation(-ramp, None), orientation(ramp, None))


def test_orientation_does_not_depend_on_what_is_masked():
    image = normalize(texture(0, 20, 30, batch=2), None)
    mask = torch.zeros(2, 1, 28, 33, dtype=torch.bool)
    mask[:, :, :20, :30] = True
    padded = orientation(F.pad(image, (0, 3, 0, 8)), mask)
    torch.testing.assert_close(padded[:, :, :20, :30], orientation(image, None))
    assert (padded[~mask.expand_as(padded)] == 0).all()


def test_a_negative_has_the_matches_of_the_image_if_the_encoder_sees_orientation():
    model = tiny_network("aerial").double()
    first, second = texture64(1, 64, 80), texture64(2, 72, 64)
    assert_equal_matches(match_all(model, first, 1 - second), match_all(model, first, second))


@torch.no_grad()
def test_an_image_shifted_by_8_pixels_shifts_features_by_a_cell():
    encoder = tiny_network().encoder
    image = texture(3, 128, 160)
    still, moved = encoder(image, None), encoder(image.roll((16, 8), (2, 3)), None)
    for features, shifted, stride, border in zip(still[:3], moved[:3], (2, 4, 8), (16, 12, 6), strict=True):
        rolled = features.roll((16 // stride, 8 // stride), (2, 3))
        inside = (..., slice(border, -border), slice(border, -border))
        torch.testing.assert_close(shifted[inside], rolled[inside], rtol=1e-4, atol=1e-4)


def mirror_kernels(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = module.weight.data.flip(3)


@torch.no_grad()
def test_index_k_lies_at_stride_times_k():
    """Mirrored images have mirrored features if the last index lies on the last pixel, width 8n + 1."""
    model, mirrored = tiny_network(), tiny_network()
    mirror_kernels(mirrored)
    image = texture(4, 48, 81)
    features, flipped = model.encoder(image, None), mirrored.encoder(image.flip(3), None)
    assert [f.shape[3] for f in features[:3]] == [41, 21, 11]
    for mine, other in zip(features[:3], flipped[:3], strict=True):
        torch.testing.assert_close(other.flip(3), mine, rtol=1e-4, atol=1e-4)
    fine, fine_flipped = model.fine(features, features.eighth), mirrored.fine(flipped, flipped.eighth)
    torch.testing.assert_close(fine_flipped.flip(3), fine, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_features_are_zero_where_the_mask_is():
    image, mask = texture(0, 48, 64), torch.zeros(1, 1, 48, 64, dtype=torch.bool)
    mask[..., :30, :41] = True
    features = tiny_network().encoder(image, mask)
    for tensor, (rows, columns) in zip(features[:3], ((15, 21), (8, 11), (4, 6)), strict=True):
        assert (tensor[..., rows:, :] == 0).all() and (tensor[..., columns:] == 0).all()
        assert (tensor[..., rows - 1, columns - 1] != 0).any()
    assert features.mask is not None and features.mask.sum() == 15 * 21
    assert features.mask[0, 0, :15, :21].all()


# --- joint scan


def test_orders_of_a_small_grid():
    tokens = torch.arange(6).reshape(1, 2, 3, 1)
    assert into_sequences(tokens, 0).tolist() == [[[0, 1, 2, 3, 4, 5]]]
    assert into_sequences(tokens, 1).tolist() == [[[0, 3, 1, 4, 2, 5]]]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.integers(0, 1))
def test_orders_are_undone(batch, height, width, channels, order):
    tokens = torch.randn(batch, height, width, 2, channels, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out_of_sequences(into_sequences(tokens, order), order, height, width), tokens)


def test_exchange_cross_exchanges_the_images_of_cross_scans_only():
    sequences = torch.arange(4 * 2).reshape(4, 2, 1)
    actual = exchange_cross(sequences, 1)
    assert torch.equal(actual[:, 0], sequences[:, 0])
    assert torch.equal(actual[:, 1], sequences[[2, 3, 0, 1], 1])
    assert torch.equal(exchange_cross(actual, 1), sequences)


def test_steps_start_at_memories_of_100_tokens():
    layer = JointScan(32, 8)
    steps = F.softplus(layer.step_bias) * layer.log_rate.exp()
    torch.testing.assert_close(1 / steps, torch.full((8,), 100.0))


def test_a_token_reads_all_tokens_of_both_images():
    torch.manual_seed(0)
    layer = JointScan(32, 8).double()
    x = torch.randn(2, 4, 5, 32, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 4, 5, 1, dtype=torch.float64)
    mask[1, :, 3:] = 0
    (gradient,) = torch.autograd.grad(layer(x, mask)[0, 1, 2].sum(), x)
    assert (gradient.abs().amax(-1)[mask[..., 0] > 0] > 1e-9).all()
    assert (gradient[1, :, 3:] == 0).all()


@torch.no_grad()
def test_missing_tokens_do_not_change():
    torch.manual_seed(0)
    layer = JointScan(32, 8)
    x, mask = torch.randn(2, 4, 5, 32), torch.ones(2, 4, 5, 1)
    mask[1, 2:] = 0
    x = x * mask
    y = layer(x, mask)
    assert (y[1, 2:] == 0).all() and (y[1, :2] != x[1, :2]).any()


# --- fine features


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans())
def test_upsample_puts_index_k_at_2k(height, width, odd_rows, odd_columns):
    rows, columns = 2 * height - odd_rows, 2 * width - odd_columns
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    result = upsample(x, (rows, columns))
    assert result.shape == (2, 3, rows, columns)
    torch.testing.assert_close(result[..., ::2, ::2], x)
    padded = F.pad(x, (0, 1, 0, 1))  # 0 beyond the border, as where the mask is 0
    between = (padded[..., :-1, :-1] + padded[..., 1:, :-1] + padded[..., :-1, 1:] + padded[..., 1:, 1:]) / 4
    torch.testing.assert_close(result[..., 1::2, 1::2], between[..., : rows // 2, : columns // 2])


def test_upsample_keeps_a_ramp():
    ramp = 2.0 * torch.arange(6)[:, None] - 3.0 * torch.arange(5)
    expected = 1.0 * torch.arange(11)[:, None] - 1.5 * torch.arange(9)
    torch.testing.assert_close(upsample(ramp[None, None], (11, 9))[0, 0], expected)


@torch.no_grad()
def test_fine_features_have_unit_length():
    model = tiny_network()
    features = model.encode(texture(0, 53, 70))
    fine = model.fine(features, features.eighth)
    assert fine.shape == (1, 8, 27, 35)
    torch.testing.assert_close(fine.norm(dim=1), torch.ones(1, 27, 35))


# --- positions


def test_window_positions_and_cell_centres():
    positions = window_positions(torch.device("cpu"))
    assert positions.shape == (49, 2) and positions[24].tolist() == [0, 0]
    assert positions[:8].tolist() == [
        [-3, -3],
        [-2, -3],
        [-1, -3],
        [0, -3],
        [1, -3],
        [2, -3],
        [3, -3],
        [-3, -2],
    ]
    assert cell_centres(torch.tensor([0, 4, 5, 13]), (3, 5)).tolist() == [[0, 0], [32, 0], [0, 8], [24, 16]]


def bilinear(position: tuple[float, float], grid: tuple[int, int]) -> Tensor:
    """Map at stride 2 that is 1 at a position (x, y) in pixels, spread over the 4 indices around it."""
    y, x = (
        F.relu(1 - (torch.arange(4 * n) - p / 2).abs()) for n, p in zip(grid, position[::-1], strict=True)
    )
    return y[:, None] * x


def synthetic_pair(
    model: KDMamba,
    grid: tuple[int, int],
    cells: tuple[int, int],
    in0: tuple[float, float],
    in1: tuple[float, float],
) -> tuple[PairFeatures, PairFeatures]:
    """Features by which only two cells match; the centre of cell 0 looks like `in1`, that of 1 like `in0`.

    The similarity of a position of image 0 and one of image 1 is the log of bilinear weights about `in0`
    at the first plus the same about `in1` at the second.
    """
    vectors = torch.eye(grid[0] * grid[1])[None]
    log_matchability = [torch.full((1, len(vectors[0])), -30.0) for _ in cells]
    for tensor, cell in zip(log_matchability, cells, strict=True):
        tensor[0, cell] = 0.0
    moved = vectors.roll(cells[1] - cells[0], 1)
    logs = [(bilinear(p, grid).clamp_min(1e-12).log() / model.scales[1]).detach() for p in (in0, in1)]
    ones = torch.ones_like(logs[0])
    fine = torch.stack([logs[0], ones])[None], torch.stack([ones, logs[1]])[None]
    first = PairFeatures(vectors, Descriptors(vectors, log_matchability[0]), fine[0], None, grid)
    return first, PairFeatures(vectors, Descriptors(moved, log_matchability[1]), fine[1], None, grid)


@settings(max_examples=30, deadline=None)
@given(st.floats(-5.9, 5.9), st.floats(-5.9, 5.9))
def test_a_known_position_is_found(x, y):
    model, grid = NETWORK, (5, 6)
    row0, column0, row1, column1 = 2, 2, 1, 3
    centre0, centre1 = (8.0 * column0, 8.0 * row0), (8.0 * column1, 8.0 * row1)
    in1 = centre1[0] + x, centre1[1] + y  # the counterpart of centre 0
    in0 = centre0[0] - x, centre0[1] - y
    pair = synthetic_pair(model, grid, (row0 * 6 + column0, row1 * 6 + column1), in0, in1)
    expected = {"image0": (in0, centre1), "image1": (centre0, in1)}
    expected["both"] = (centre0[0] - x / 2, centre0[1] - y / 2), (centre1[0] + x / 2, centre1[1] + y / 2)
    for moves, (point0, point1) in expected.items():
        output = model.match(*pair, moves=moves)
        assert len(output["scores"]) == 1
        torch.testing.assert_close(output["keypoints0"][0], torch.tensor(point0), rtol=0, atol=1e-3)
        torch.testing.assert_close(output["keypoints1"][0], torch.tensor(point1), rtol=0, atol=1e-3)
        assert output["scores"][0] > 0.99


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 5), (4, 0), (4, 5)])
def test_positions_beyond_the_image_have_no_probability(row, column):
    model, grid = tiny_network(), (5, 6)
    cell = row * 6 + column
    first, second = synthetic_pair(model, grid, (cell, cell), (16.0, 16.0), (16.0, 16.0))
    mask = torch.ones(1, 1, 20, 24, dtype=torch.bool)
    mask[..., 19:, :] = False  # the last row of fine positions does not exist
    second = second._replace(mask=mask)
    index, batch = torch.tensor([cell]), torch.tensor([0])
    p = model.fine_log_probability(first, second, batch, index, index).exp()[0]
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    positions = window_positions(p.device) + 4 * torch.tensor([column, row])
    inside = ((positions >= 0) & (positions < torch.tensor([24, 19]))).all(1)
    assert (p[~inside] == 0).all() and (p[inside] > 0).all()
    assert 16 <= inside.sum() < 49


def test_a_fine_peak_that_is_spread_costs_score():
    model = tiny_network()
    model.calibration.copy_(torch.tensor([0.0, 1.0, 1.0]))
    first, second = synthetic_pair(model, (5, 6), (14, 14), (16.0, 16.0), (16.0, 16.0))
    almost_flat = torch.ones_like(first.fine)
    almost_flat[:, :, 8, 8] += 1e-4
    sharp = model.match(first, second)["scores"]
    flat = model.match(first._replace(fine=almost_flat), second._replace(fine=almost_flat))["scores"]
    peak = torch.log(torch.tensor([9 / 49]))  # 3×3 of 7×7 positions, in both directions
    torch.testing.assert_close(torch.logit(flat) - torch.logit(sharp), 2 * peak, rtol=0.02, atol=0)


def test_scores_are_the_calibrated_logistic_of_probability_and_peak():
    model = tiny_network()
    probability, peaks = torch.tensor([0.1, 0.5, 0.999, 1.0]), torch.tensor([-3.0, -1.0, -0.1, 0.0])
    none = torch.zeros(4, dtype=torch.long)
    matches = Matches(none, none, none, probability.log())
    torch.testing.assert_close(model.score(matches, peaks), probability, rtol=1e-4, atol=1e-5)
    model.calibration.copy_(torch.tensor([0.3, 0.7, 1.5]))
    expected = torch.sigmoid(0.3 + 0.7 * torch.logit(probability[:3]) + 1.5 * peaks[:3])
    torch.testing.assert_close(model.score(matches, peaks)[:3], expected, rtol=1e-4, atol=1e-5)
    assert model.score(matches, peaks)[3] <= 1


def test_scales_are_limited():
    model = tiny_network()
    model.log_scale.data = torch.tensor([1.0, 9.0])
    torch.testing.assert_close(torch.stack(model.scales), torch.tensor([torch.e, 60.0]))


def test_an_image_that_meets_many_is_encoded_once(model):
    """Features of an image do not depend on the image that it is matched to."""
    image0, image1 = texture(0, 64, 80), texture(1, 64, 80)
    both = model.encode(torch.cat([image0, image1]))
    alone = model.encode(image0)
    assert isinstance(alone, ImageFeatures)
    for mine, together in zip(alone[:3], both[:3], strict=True):
        torch.testing.assert_close(mine, together[:1], rtol=1e-4, atol=1e-5)
