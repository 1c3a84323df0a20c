"""Tokens of the user's tokenizer, and the codebook that is the example."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import save_file

from mimray.mim.build import assemble
from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.targets import build_target
from mimray.mim.targets.patch_codebook import PatchCodebook
from mimray.mim.targets.patches import standardise, to_patches
from mimray.recipe import TargetSettings
from tests.mim.target_files import CODEBOOK_CLASS, codebook_file

pytestmark = pytest.mark.unit

BRIGHTNESS = """
import torch

class Brightness(torch.nn.Module):
    '''Three tokens: dark, middling, bright.'''
    vocabulary, patch = 3, 4

    def __init__(self):
        super().__init__()
        self.edges = torch.nn.Parameter(torch.zeros(2))

    def forward(self, images):
        light = torch.nn.functional.avg_pool2d(images.mean(dim=1), 4)
        return torch.bucketize(light.contiguous(), self.edges)

class Product(Brightness):
    def forward(self, images):
        light = images.mean(dim=1)[:, ::4, ::4, None] @ torch.ones(1, 1)
        return torch.bucketize(light[..., 0].contiguous(), self.edges)

class Wide(Brightness):
    def forward(self, images):
        return super().forward(images)[:, None]

class Floating(Brightness):
    def forward(self, images):
        return super().forward(images).float()

class Pair(Brightness):
    def forward(self, images):
        return super().forward(images), None

class Beyond(Brightness):
    vocabulary = 1

class Nameless(Brightness):
    vocabulary = None

class Argued(Brightness):
    def __init__(self, size):
        super().__init__()

class NoModule:
    pass
"""


@pytest.fixture
def tokens(tmp_path):
    """`tokens(class_name, weights)`: a target with a tokenizer from a file of the user's."""
    (tmp_path / "mine.py").write_text(BRIGHTNESS)

    def build(name="Brightness", weights=None, size=8):
        weights = {"edges": torch.tensor([-0.5, 0.5])} if weights is None else weights
        save_file(weights, tmp_path / "w.safetensors")
        return tokens_of(f"{tmp_path}/mine.py:{name}", tmp_path / "w.safetensors", size)

    return build


def tokens_of(module, file, size=8):
    return build_target(TargetSettings(kind="tokens", module=module, file=str(file)), size)


def test_a_tokenizer_from_a_file_says_what_is_predicted(tokens):
    target = tokens()
    images = torch.zeros(1, 3, 8, 8)
    images[..., :4, 4:], images[..., 4:, :4] = 1.0, -1.0
    assert target(images).tolist() == [[[[1, 2], [0, 1]]]]
    assert (target.outputs, target.values, target.pixel) == (3, 1, 4)
    assert target.to_images(torch.zeros(1, 3, 2, 2), images) is None


def test_it_is_frozen_and_no_part_of_the_model(tokens):
    target = tokens()
    encoder = SwinEncoder(8, 2, 0.0, patch=2, embed=8, depths=(1, 1), heads=(1, 2))
    model = assemble(encoder, target, (2, 2)).train()
    assert not [name for name in model.state_dict() if name.startswith("target")]
    assert not [name for name, _ in model.named_parameters() if name.startswith("target")]
    (tokenizer,) = target.frozen
    assert not tokenizer.training and not tokenizer.edges.requires_grad
    before = model(torch.zeros(1, 3, 8, 8), torch.ones(1, 4, 4, dtype=torch.bool))
    before.loss.backward()
    assert tokenizer.edges.grad is None
    twin = copy.deepcopy(model)
    assert twin.target.frozen[0].edges is not tokenizer.edges


def test_it_follows_the_pictures_to_their_device(tokens):
    target = tokens()
    target.to("meta")  # the model's own move does not reach it
    assert target.frozen[0].edges.device.type == "cpu"
    seen = []
    target.frozen[0].to = lambda device: seen.append(device.type) or target.frozen[0]
    target(torch.zeros(1, 3, 8, 8))
    assert seen == ["cpu"]


def test_tokens_do_not_depend_on_the_precision_of_the_run(tokens):
    target = tokens("Product")
    images = torch.full((1, 3, 8, 8), 0.5001)  # in bf16 it would be on the edge, and below
    with torch.autocast("cpu", torch.bfloat16):
        assert target(images).unique().tolist() == [2]


def test_its_weights_are_there_where_a_model_is_only_looked_at(tokens):
    with torch.device("meta"):
        target = tokens(weights={"edges": torch.tensor([-0.5, 0.5], device="cpu")})
    assert target.frozen[0].edges.tolist() == [-0.5, 0.5]


def test_weights_may_be_a_pickle_of_tensors_and_nothing_else(tokens, tmp_path):
    tokens()
    torch.save({"edges": torch.tensor([-0.5, 0.5])}, tmp_path / "w.pt")
    target = tokens_of(f"{tmp_path}/mine.py:Brightness", tmp_path / "w.pt")
    assert target(torch.ones(1, 3, 8, 8)).unique().tolist() == [2]
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return open, (str(ran), "w")

    for number, bad in enumerate([Trap(), {"edges": Trap()}, {"edges": [1.0]}, torch.zeros(1)]):
        file = tmp_path / f"{number}.pkl"
        torch.save(bad, file) if number > 1 else file.write_bytes(pickle.dumps(bad, protocol=2))
        with pytest.raises(ValueError, match=f"{number}.pkl: neither safetensors nor a pickle"):
            tokens_of(f"{tmp_path}/mine.py:Brightness", file)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "Wide",
            r"gave torch.int64 of shape \(1, 1, 2, 2\) for pictures of 8 x 8; tokens are torch.",
        ),
        ("Floating", r"gave torch.float32 of shape \(1, 2, 2\)"),
        ("Pair", "gave a tuple for pictures"),
        ("Beyond", "gave tokens from 1 to 1; its vocabulary holds 0 to 0"),
        ("Nameless", "vocabulary=None must be a positive number"),
        ("Argued", "is made without arguments: .*'size'"),
        ("NoModule", "no nn.Module of that name in it; there are Brightness, Product"),
        ("Brightnes", "no nn.Module of that name in it; there are Brightness, Product"),
    ],
)
def test_a_tokenizer_that_does_not_keep_to_it(tokens, name, says):
    with pytest.raises(ValueError, match=f"mine.py:{name}: {says}") as error:
        tokens(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"edge": torch.zeros(2)}, "of Brightness: no edges; no place for edge"),
        ({"edges": torch.zeros(3)}, r"of Brightness: shapes: edges is \(3,\) and not \(2,\)"),
    ],
)
def test_weights_of_another(tokens, weights, says):
    with pytest.raises(ValueError, match=f"target.file=.*w.safetensors: not the weights {says}"):
        tokens(weights=weights)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("no.such:Thing", "no module no"),
        ("mimray.mim.nothing:Thing", "no module mimray.mim.nothing"),
        ("/no/such/file.py:Thing", "no such file on this host"),
        ("Thing", "write it as package.module:Class or path/to/file.py:Class"),
        ("mimray.mim.kmeans:Thing", "there are none"),
    ],
)
def test_a_module_that_is_not_there(tokens, tmp_path, module, says):
    tokens()
    with pytest.raises(ValueError, match=f"target.module={module}: .*{says}"):
        tokens_of(module, tmp_path / "w.safetensors")


def test_a_module_that_cannot_be_imported(tokens, tmp_path):
    tokens()
    (tmp_path / "torn.py").write_text("class Torn(:")
    for _ in range(2):  # what failed is not kept
        with pytest.raises(ValueError, match=r"torn.py:Torn: cannot be imported: SyntaxError"):
            tokens_of(f"{tmp_path}/torn.py:Torn", tmp_path / "w.safetensors")


@pytest.mark.parametrize("missing", ["module", "file"])
def test_both_are_needed(missing):
    settings = {"module": CODEBOOK_CLASS, "file": "w.safetensors"} | {missing: None}
    with pytest.raises(ValueError, match=r"needs target.module, .* and target.file, its weights"):
        build_target(TargetSettings(kind="tokens", **settings), 8)


def test_a_patch_must_divide_the_picture(tokens):
    with pytest.raises(ValueError, match="its patch of 4 px does not divide the 10 px picture"):
        tokens(size=10)


class TestPatchCodebook:
    def test_a_token_is_the_nearest_standardised_patch(self, tmp_path):
        generator = torch.Generator().manual_seed(0)
        codebook = torch.randn(7, 48, generator=generator)
        target = tokens_of(CODEBOOK_CLASS, codebook_file(tmp_path, codebook))
        images = torch.randn(3, 3, 8, 8, generator=generator)
        distance = torch.cdist(standardise(to_patches(images, 4)).flatten(0, 2), codebook)
        assert torch.equal(target(images).flatten(), distance.argmin(dim=1))
        assert (target.classes, target.pixel) == (7, 4)

    def test_brightness_and_contrast_do_not_count(self, tmp_path):
        codebook = torch.randn(7, 48, generator=torch.Generator().manual_seed(0))
        target = tokens_of(CODEBOOK_CLASS, codebook_file(tmp_path, codebook))
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        assert torch.equal(target(images), target(images * 0.3 - 2.0))

    def test_its_size_is_that_of_its_weights(self):
        tokenizer = PatchCodebook()
        tokenizer.load_state_dict({"codebook": torch.ones(9, 12)})
        assert (tokenizer.vocabulary, tokenizer.patch) == (9, 2)
        assert torch.equal(tokenizer.codebook, torch.ones(9, 12))

    def test_weights_of_colours_are_refused(self, tmp_path):
        save_file({"colours": torch.zeros(4, 3)}, tmp_path / "c")
        with pytest.raises(
            ValueError, match="not the weights of PatchCodebook: no codebook; no place"
        ):
            tokens_of(CODEBOOK_CLASS, tmp_path / "c")
