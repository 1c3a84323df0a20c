import subprocess
import sys

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mimray.errors import UserError
from mimray.mim.encoders import build_encoder
from mimray.recipe import FinetuneRecipe, Recipe, builtin_recipes, load_any, load_recipe
from mimray.train.tasks.check_pretraining import check_model

pytestmark = pytest.mark.unit


def refusal(*overrides, recipe="demo"):
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, overrides)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.exit_code == 2
    return line


# ----- every built-in recipe ----------------------------------------------------------------------


PRETRAIN = [n for n, file in builtin_recipes().items() if file.parent.name == "recipes"]
FINETUNE = [n for n, file in builtin_recipes().items() if file.parent.name == "finetune"]


@pytest.mark.parametrize("name", FINETUNE)
def test_a_recipe_for_fine_tuning_is_checked_and_fits_its_encoder(name, tmp_path):
    recipe = load_any(name, ["run.seed=3"])
    model = recipe.model
    with torch.device("meta"):
        build_encoder(
            *(model.encoder, model.image_size, model.window, model.drop_path),
            finetune=True,
            pretrained_windows=model.pretrained_windows,
        )
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    assert load_any(file) == recipe and recipe.name == name
    with pytest.raises(UserError, match="is a recipe for fine-tuning"):
        load_recipe(name)
    with pytest.raises(UserError, match="mask is not a setting"):
        load_any(name, ["mask.ratio=0.5"])


@pytest.mark.parametrize("name", FINETUNE)
def test_a_supervised_recipe_says_that_it_starts_from_scratch_and_decays_no_layer(name):
    recipe = load_any(name)
    supervised = name.startswith("supervised_")
    assert recipe.model.weights is None and recipe.model.start_is_said == supervised
    assert (recipe.optim.layer_decay == 1.0) == supervised


# Image size, window, layer decay, drop path: SimMIM and Swin-Transformer, configs/*finetune*.
RELEASED = {
    "finetune_swin_base_100ep_192": (192, 6, 0.9, 0.1),
    "finetune_swin_base_100ep_224": (224, 7, 0.9, 0.1),
    "finetune_swin_base_800ep_224": (224, 7, 0.8, 0.1),
    "finetune_swin_large_800ep_224": (224, 14, 0.7, 0.2),
    "finetune_vit_base_800ep_224": (224, None, 0.65, 0.1),
    "finetune_swinv2_base_800ep_224": (224, 14, 0.75, 0.1),
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_configuration_has_its_numbers(name):
    """Learning rates there are for a batch of 512."""
    recipe = load_any(name)
    model, optim, schedule, augment = recipe.model, recipe.optim, recipe.schedule, recipe.augment
    found = (model.image_size, model.window, optim.layer_decay, model.drop_path)
    assert found == RELEASED[name]
    assert optim.lr * 512 / optim.batch == pytest.approx(1.25e-3)
    for low in (schedule.warmup_lr, schedule.min_lr):
        assert low * 512 / optim.batch == pytest.approx(2.5e-7)
    assert (optim.weight_decay, optim.clip, optim.betas) == (0.05, 5.0, (0.9, 0.999))
    assert (schedule.kind, schedule.length, schedule.warmup) == ("cosine", "100ep", "20ep")
    assert (augment.mixup, augment.cutmix, augment.smoothing) == (0.8, 1.0, 0.1)
    assert (augment.randaugment, augment.erasing) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert (recipe.data.crop_scale, recipe.data.flip) == ((0.08, 1.0), 0.5)
    assert recipe.run.validate_every == "1ep"
    assert model.pretrained_windows == ((12, 12, 12, 6) if "swinv2" in name else None)


def test_the_supervised_swinv2_is_trained_as_the_supervised_swin():
    """Both as Dark Secrets compares them with MIM, at the size of their pre-training."""
    swin, v2 = load_any("supervised_swin_base_224"), load_any("supervised_swinv2_base_192")
    theirs = {"encoder": "swinv2_base", "image_size": 192, "window": 12}
    assert v2.model == swin.model.model_copy(update=theirs)
    for section in ("data", "augment", "optim", "schedule"):
        assert getattr(v2, section) == getattr(swin, section)


def test_the_suite_s_recipe_is_simmim_s_at_a_batch_of_128():
    suite, tuned = load_any("finetune_transfer"), load_any("finetune_swinv2_base_800ep_224")
    assert suite.model.encoder == tuned.model.encoder
    assert suite.optim.layer_decay == tuned.optim.layer_decay
    assert suite.optim.lr == pytest.approx(tuned.optim.lr * 128 / 2048)
    assert suite.schedule.min_lr == pytest.approx(tuned.schedule.min_lr * 128 / 2048)
    assert suite.run.validate_every == "1ep"  # the best of all epochs, as papers take it


@pytest.mark.parametrize("name", PRETRAIN)
def test_a_builtin_recipe_loads_and_fits_its_model(name):
    recipe = load_recipe(name)
    check_model(recipe)
    assert recipe.name == name


@pytest.mark.parametrize("name", PRETRAIN)
def test_to_yaml_is_read_back_the_same(name, tmp_path):
    recipe = load_recipe(name, ["run.seed=3", "run.tracking=off"])
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    again = load_recipe(file)
    assert again == recipe
    assert again.digest() == recipe.digest() and again.run_name() == recipe.run_name()


def test_a_recipe_is_read_from_a_path(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("mask: {unit: 16}\n")
    recipe = load_recipe(str(file))
    assert (recipe.name, recipe.mask.unit, recipe.mask.ratio) == ("mine", 16, 0.6)


def test_an_empty_file_is_all_defaults(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("# nothing\n")
    assert load_recipe(file) == Recipe()


@pytest.mark.parametrize(
    ("override", "section", "value"),
    [
        ("mask.ratio=0.5", "mask", 0.5),
        ("optim.lr=8e-4", "optim", 8e-4),  # text to YAML 1.1
        ("optim.betas=[0.9, 0.95]", "optim", (0.9, 0.95)),
        ("data.train=s3://bucket/a=b", "data", "s3://bucket/a=b"),
        ("data.val=null", "data", None),
        ("schedule.length=1.28e8img", "schedule", "1.28e8img"),
        ("run.tracking=off", "run", "off"),  # false to YAML 1.1
    ],
)
def test_overrides_are_yaml_values(override, section, value):
    key = override.partition("=")[0].partition(".")[2]
    assert getattr(getattr(load_recipe("demo", [override]), section), key) == value


def test_the_last_override_wins():
    assert load_recipe("demo", ["mask.ratio=0.5", "mask.ratio=0.4"]).mask.ratio == 0.4


# ----- what is wrong is said in one line ----------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "a", "b"),
    [
        ("mask.ratoi=0.5", "mask.ratoi is not a setting", "did you mean mask.ratio"),
        ("maks.ratio=0.5", "maks is not a setting", "did you mean mask"),
        ("ratio.mask=0.5", "ratio is not a setting", "mask.ratio"),
        ("mask.patch_size=32", "mask.patch_size is not a setting", "did you mean"),
        ("foo.bar=1", "foo is not a setting", "mimray recipe show"),
        ("mask.unit=7", "mask.unit=7 does not divide model.image_size=96", "take 4 or 8"),
        ("mask.unit=96", "mask.unit=96 is the whole picture", "take a smaller one"),
        ("model.image_size=100000000", "model.image_size=100000000", "equal to 4096"),
        ("mask.ratio=0", "mask.ratio=0", "greater than 0"),
        ("mask.ratio=1", "mask.ratio=1", "less than 1"),
        ("mask.ratio=-0.5", "mask.ratio=-0.5", "greater than 0"),
        ("mask.ratio=.nan", "mask.ratio=nan", "finite"),
        ("mask.ratio=much", "mask.ratio='much'", "valid number"),
        ("mask.ratio=0.99", "mask.ratio=0.99 hides all 36 cells", "is 0.972"),
        ("mask.ratio=", "mask.ratio=None", "valid number"),
        ("schedule.length=100", "schedule.length: '100' is not a duration", "100ep"),
        ("schedule.length=10%", "schedule.length: '10%'", "share of itself"),
        ("schedule.warmup=5", "schedule.warmup: '5' is not a duration", "100ep"),
        ("schedule.milestones=[1ep, 5]", "schedule.milestones.1: 5 is not a duration", "100ep"),
        ("schedule.kind=poly", "schedule.kind='poly'", "'cosine', 'multistep', 'step' or 'linear'"),
        ("optim.batch=0", "optim.batch=0", "greater than or equal to 1"),
        ("optim.batch=1.5", "optim.batch=1.5", "integer"),
        ("optim.lr=.inf", "optim.lr=inf", "finite"),
        ("optim.betas=[0.9, 2]", "optim.betas.1=2", "less than 1"),
        ("data.crop_scale=[1, 0.5]", "data.crop_scale: [1.0, 0.5] is not a range", "[0.5, 1.0]"),
        ("data.crop_scale=[-1, 1]", "data.crop_scale: [-1.0, 1.0] is not a range", "above 0"),
        ("data.crop_ratio=[0, 1]", "data.crop_ratio: [0.0, 1.0] is not a range", "above 0"),
        ("run.seed=-1", "run.seed=-1", "greater than or equal to 0"),
        (f"run.seed={2**63}", f"run.seed={2**63}", "less than"),
        ("run.name=a/b", "run.name='a/b'", "pattern"),
        ("speed.workers=0", "speed.workers: 0 is too few", "at least one"),
        ("speed.workers=2.5", "speed.workers: 2.5 is neither", "write 4 or [2, 8]"),
        ("speed.workers=[1]", "speed.workers: [1] is neither", "write 4 or [2, 8]"),
        ("speed.workers=[3, 1]", "[3, 1] is [least, most]", "write [1, 3]"),
        ("mask.ratio", "'mask.ratio' is not an override", "write it like mask.ratio=0.5"),
        ("ratio=0.5", "'ratio=0.5' is not an override", "write it like mask.ratio=0.5"),
        ("mask.=1", "'mask.=1' is not an override", "write it like mask.ratio=0.5"),
        ("a.b.c=1", "'a.b.c=1' is not an override", "write it like mask.ratio=0.5"),
        ("name.x=1", "'name.x=1'", "'name' is not a section"),
        ("mask.unit=*.parquet", "'mask.unit=*.parquet'", "put it in quotes"),
        ("mask.unit=2026-13-01", "'mask.unit=2026-13-01'", "put it in quotes"),
    ],
)
def test_a_bad_override_names_the_setting_and_the_mend(override, a, b):
    line = refusal(override)
    assert a in line and b in line


def test_more_errors_are_counted():
    assert "(and 1 more)" in refusal("mask.ratio=2", "optim.lr=-1")


def test_the_ratio_that_is_offered_is_accepted():
    for unit in (4, 8, 16, 24, 32, 48):
        offered = refusal(f"mask.unit={unit}", "mask.ratio=0.99999").rsplit(" ", 1)[-1]
        load_recipe("demo", [f"mask.unit={unit}", f"mask.ratio={offered}"])


def test_an_unknown_recipe_names_the_known_ones(tmp_path):
    assert "no recipe 'nope'" in refusal(recipe="nope") and "demo" in refusal(recipe="nope")
    assert "no recipe" in refusal(recipe=tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "a recipe is a list of sections"),
        ("hello\n", "a recipe is a list of sections"),
        ("[]\n", "a recipe is a list of sections"),
        ("0\n", "a recipe is a list of sections"),
        ("mask: {unit: [\n", "not YAML"),
        ("mask: {unit: 8, unit: 16}\n", "unit is set twice"),
        ("mask: 3\n", "mask=3"),
        ("name: 2026-13-01\n", "not YAML"),
        ("1: 2\n", "keys should be strings"),
        ("mask: {units: 32}\n", "did you mean mask.unit"),
        (b"\xff\xfe\xfa", "not YAML"),
    ],
)
def test_a_bad_file_is_said_in_one_line(tmp_path, text, says):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert says in refusal(recipe=file)


@given(st.text(max_size=30))
def test_no_override_breaks_the_reader(text):
    try:
        load_recipe("demo", [f"mask.ratio={text}"])
    except UserError as error:
        assert len(str(error).splitlines()) == 1


# ----- the digest ---------------------------------------------------------------------------------

CHANGES = {
    "model": "model.encoder=swin_tiny",
    "mask": "mask.ratio=0.5",
    "head": "head.kind=other",
    "target": "target.kind=windowed",
    "data": "data.flip=0",
    "optim": "optim.batch=8",
    "schedule": "schedule.length=1ep",
}
KEEPS = [
    "run.name=other",
    "run.storage=/tmp/x",
    "run.tracking=off",
    "run.experiment=e",
    "run.validate_every=1it",
    "run.checkpoint_every=1it",
    "run.keep=5",
    "run.log_every=2it",
    "run.restarts=0",
    "run.reference_mask={unit: 8, ratio: 0.5}",
    "speed.workers=3",
    "speed.device=cpu",
    "speed.cpus_per_worker=2",
    "speed.placement=pack",
    "speed.micro_batch=1",
    "speed.block_rows=8",
    "speed.prefetch=0",
    "speed.loader=torch",
    "speed.loader_processes=1",
    "speed.cache_gib=0",
    "speed.parallel=fsdp",
    "speed.compile=off",
    "speed.checkpoint_stages=[1]",
]


@pytest.mark.parametrize("section", CHANGES)
def test_the_digest_changes_with_every_result_section(section):
    demo = load_recipe("demo")
    assert load_recipe("demo", [CHANGES[section]]).digest() != demo.digest()
    assert load_recipe("demo", [CHANGES[section]]).run_name() != demo.run_name()


def test_the_digest_changes_with_the_seed():
    assert load_recipe("demo", ["run.seed=1"]).digest() != load_recipe("demo").digest()


@pytest.mark.parametrize("override", KEEPS)
def test_the_digest_does_not_change_with_speed_or_the_rest_of_run(override):
    changed, demo = load_recipe("demo", [override]), load_recipe("demo")
    assert changed != demo and changed.digest() == demo.digest()


def test_every_setting_of_run_and_speed_is_decided_about():
    settings = yaml.safe_load(load_recipe("demo").to_yaml())
    names = {f"{s}.{k}" for s in ("run", "speed") for k in settings[s]}
    assert names == {k.partition("=")[0] for k in KEEPS} | {"run.seed"}


def test_every_section_is_a_result_or_known_not_to_be():
    for kind in (Recipe, FinetuneRecipe):
        assert set(kind.model_fields) == {*kind.results, "name", "run", "speed"}


# ----- imports ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["import mimray", "import mimray; mimray.load_recipe('demo', ['mask.ratio=0.5'])"]
)
def test_settings_load_no_heavy_library(code):
    heavy = "{'torch', 'numpy', 'ray', 'mlflow', 'pyarrow', 'timm'}"
    code += f"; import sys; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("run.name=2024", "2024"),
        ("run.name=2024-01-01", "2024-01-01"),
        ('run.name="quoted"', "quoted"),
        ("run.name=null", None),
        ("run.name=", None),
    ],
)
def test_text_settings_need_no_quotes(override, value):
    assert load_recipe("demo", [override]).run.name == value


def test_a_pattern_is_text():
    assert load_recipe("demo", ["data.train=*.parquet"]).data.train == "*.parquet"


# ----- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["run.tracking", "run.storage", "data.train", "data.val"])
def test_an_address_with_a_password_is_refused_and_not_repeated(setting):
    with pytest.raises(UserError, match=f"^{setting}: holds a password") as caught:
        load_recipe("demo", [f"{setting}=postgresql://user:hunter2@host/db"])
    assert "hunter2" not in str(caught.value)
    assert load_recipe("demo", [f"{setting}=s3://bucket/run:1@2"])  # no password
