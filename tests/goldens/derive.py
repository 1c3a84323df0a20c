"""A folder of goldens at other sizes, with mimray's own numbers as the results.

It proves nothing about the numbers: it shows that the tests take every size and every case from the
files, so that they run on whatever folder `MIMRAY_GOLDENS` names.
"""

import json
import shutil

import numpy as np
import torch

from mimray import weights
from mimray.durations import Clock
from mimray.mim.masks import STRATEGIES
from mimray.mim.targets import build_target
from mimray.optim import decays, layer_id, layer_names, layer_scales, learning_rate
from mimray.recipe import Schedule, TargetSettings
from mimray.weights.remap import resize_table, source_positions
from tests.goldens.golden import FOLDER, Golden
from tests.goldens.models import (
    build_pretraining,
    classifier,
    official_gradients,
    official_names,
    official_weights,
    pretraining_model,
    recorded,
)
from tests.goldens.test_pretraining import TARGETS
from tests.goldens.test_remaps import swinv2_bias
from tests.goldens.test_train_steps import train

SWIN = {"type": "swin", "img": 64, "patch": 2, "embed": 12, "stride": 8, "batch": 3, "window": 4}
SWIN |= {"depths": [1, 3, 2], "heads": [2, 3, 6]}
SWINV2 = {"type": "swinv2", "img": 32, "patch": 4, "embed": 6, "stride": 8, "batch": 1, "window": 4}
SWINV2 |= {"depths": [2, 1], "heads": [1, 3], "norm_patch": 15}
VIT = {"type": "vit", "img": 40, "patch": 8, "embed": 24, "stride": 8, "batch": 1}
VIT |= {"depth": 5, "heads": 3}
CONFIGS = {"simmim_swin": SWIN, "simmim_swinv2": SWINV2, "simmim_vit": VIT}

FINETUNING = {
    "small": {
        "img": 48,
        "window": 6,
        "batch": 1,
        "num_classes": 4,
        "pretrained": "simmim_swin.npz",
    },
    "second": {
        "img": 64,
        "window": 8,
        "batch": 2,
        "num_classes": 3,
        "pretrained_window_sizes": [4, 4],
        "pretrained": "simmim_swinv2.npz",
    },
    "plain": {"img": 56, "batch": 2, "num_classes": 7, "pretrained": "simmim_vit.npz"},
}


def derive(folder):
    """Write every golden that the tests look at into `folder`."""
    torch.manual_seed(0)
    shutil.copy(FOLDER / "tolerances.json", folder)
    for stem, config in CONFIGS.items():
        write(folder, stem, {"config": config}, pretraining(config))
    write(folder, "finetune_forward", *finetuning(folder))
    write(folder, "norm_target", *norm_target())
    write(folder, "remap_swin", {}, tables({"a": (5, 9), "b": (8, 3), "c": (4, 4)}, extra=0))
    write(folder, "remap_vit", {}, tables({"d": (2, 5)}, extra=3))
    write(folder, "remap_swinv2", *bias())
    write(folder, "mask_counts", {"content": mask_counts()})
    write(folder, "schedules", {"content": schedules()})
    write(folder, "train_steps", *train_steps(folder))
    write(folder, "param_groups", {"content": {"a model": {"finetune": parameter_groups(SWIN)}}})


def write(folder, stem, info, arrays=None):
    (folder / f"{stem}.json").write_text(json.dumps(info))
    if arrays is not None:
        plain = {key: np.asarray(value) for key, value in detached(arrays).items()}
        np.savez(folder / f"{stem}.npz", **plain)


def detached(arrays):
    return {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in arrays.items()}


def pretraining(config):
    model = build_pretraining(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    side = config["img"] // config["patch"]
    x = torch.randn(config["batch"], 3, config["img"], config["img"])
    hidden = torch.rand(config["batch"], side, side) < 0.5
    arrays = {
        f"param/{n}": t for n, t in weights.FORMATS["official"].write(model.state_dict()).items()
    }
    arrays |= {"x": x, "mask": hidden.long(), "reconstruction": model(x, hidden).prediction}
    arrays |= {f"features/{key}": value for key, value in recorded(model, (x, hidden)).items()}
    for kind in ("_plain", "_norm_target") if "norm_patch" in config else ("",):
        other = build_pretraining(config, TARGETS[kind])
        other.load_state_dict(model.state_dict())
        loss = arrays[f"loss{kind}"] = other(x, hidden).loss
        loss.backward()
        for name, gradient in official_gradients(other).items():
            arrays[f"gradnorm{kind}/{name}"] = gradient.double().norm()
            if kind != "_norm_target" and gradient.numel() < 50:
                arrays[f"grad{kind}/{name}"] = gradient
    return arrays


def finetuning(folder):
    """Names of what is loaded and what not, by the rules that README.md gives."""
    arrays, keys = {}, {}
    for name, config in FINETUNING.items():
        pretrained = Golden(config["pretrained"].removesuffix(".npz"), folder)
        given = official_weights(pretrained)
        model = classifier(pretrained.info["config"], config)
        report = weights.load(model, given)
        names = official_names(model)
        arrays |= {f"{name}/param/{names[n]}": model.state_dict()[n] for n in report.missing}
        images = torch.randn(config["batch"], 3, config["img"], config["img"])
        arrays |= {f"{name}/x": images, f"{name}/logits": model.logits(images)}
        arrays |= {f"{name}/pooled": model.pool(images)}
        tables = [n for n in names if n.endswith("relative_position_bias_table")]
        arrays |= {f"{name}/table/{names[n]}": model.state_dict()[n] for n in tables}
        loaded = {names[n] for n in (*report.matched, *report.resized)} - {"encoder.mask_token"}
        inside = {n.removeprefix("encoder.") for n in given if n.startswith("encoder.")}
        keys[name] = {
            "checkpoint_keys": sorted(given),
            "dropped_without_prefix": sorted(n for n in given if n.startswith("decoder.")),
            "dropped_by_remap": sorted(n for n in inside if n.startswith("rel_pos_bias.")),
            "added_by_remap": [],
            "resized_tables": {names[n]: how for n, how in report.resized.items()},
            "loaded": sorted(loaded),
            "ignored_not_in_model": sorted(
                n for n in inside - loaded if not n.startswith("rel_pos_bias.")
            ),
            "fresh_parameters": sorted(names[n] for n in report.missing),
        }
    return {"config": FINETUNING, "keys": keys}, arrays


def norm_target():
    cases = [
        {"tag": "wide", "h": 12, "w": 30, "sizes": [7]},
        {"tag": "b", "h": 9, "w": 9, "sizes": [3]},
    ]
    arrays = {}
    for case in cases:
        images = arrays[f"in/{case['tag']}"] = torch.randn(1, 3, case["h"], case["w"])
        for size in case["sizes"]:
            settings = TargetSettings(kind="windowed", window=size)
            target = build_target(settings, min(case["h"], case["w"]))
            arrays[f"out/{case['tag']}/p{size}"] = target(images)
    return {"cases": cases}, arrays


def tables(cases, extra):
    arrays = {}
    for case, (source, target) in cases.items():
        table = arrays[f"in/{case}"] = torch.randn((2 * source - 1) ** 2 + extra, 2)
        arrays[f"out/{case}"] = resize_table(table, (source, source), (target, target))
        if source != target:
            arrays[f"source_positions/{case}"] = source_positions(source, target)
    return arrays


def bias():
    arrays, cases = {}, [{"tag": "only", "window": 5, "reference_window": 3, "heads": 6}]
    for case in cases:
        shapes = {"0.weight": (512, 2), "0.bias": (512,), "2.weight": (case["heads"], 512)}
        mlp = {name: torch.randn(shape) for name, shape in shapes.items()}
        arrays |= {f"in/{case['tag']}/cpb_mlp.{name}": tensor for name, tensor in mlp.items()}
        arrays |= swinv2_bias(case, mlp)
    return {"cases": cases}, arrays


def mask_counts():
    cells = 7
    masked = STRATEGIES["random"].count(cells, cells, 0.37)
    case = {"input_size": 84, "mask_patch_size": 12, "model_patch_size": 6, "mask_ratio": 0.37}
    case |= {"cells_per_side": cells, "cells": cells**2, "masked_cells": masked}
    return [case | {"mask_shape": [14, 14], "masked_tokens": 4 * masked}]


def schedules():
    given = {"epochs": 5, "iters": 4, "base_lr": 0.3, "warmup_lr": 0.01, "layer_scale": 0.4}
    schedule = Schedule(kind="linear", warmup="2ep", warmup_lr=given["warmup_lr"])
    clock = Clock(given["iters"], 1, given["iters"] * given["epochs"])
    case = {"warmup_epochs": 2, "warmup_prefix": None, "accumulation": 1}
    for group, scale in (("", 1.0), ("_scaled_group", given["layer_scale"])):
        for key, late in (("lr_at_num_updates", False), ("lr_used_by_iteration", True)):
            case[key + group] = [
                learning_rate(step, given["base_lr"] * scale, schedule, clock, like_official=late)
                for step in range(clock.total)
            ]
    released = {"kind": "linear", "warmup_epochs": 2, "scaled_warmup_lr": given["warmup_lr"]}
    released |= {"scaled_base_lr": given["base_lr"], "num_updates": [0, 9], "total_batch": 1}
    released |= {"iterations_per_epoch": given["iters"], "epochs": given["epochs"]}
    released["lr"] = [case["lr_at_num_updates"][step] for step in released["num_updates"]]
    of_release = {"some/config": released}
    return {"_inputs": given, "a linear one": case, "released_configs_at_batch_2048": of_release}


def parameter_groups(config):
    model = classifier(config, {"img": config["img"], "num_classes": 6})
    names = official_names(model)
    layers = layer_names(config["type"], config["depths"])
    scale = layer_scales(model.encoder, 0.6)
    given = {
        names[name]: {
            "shape": list(parameter.shape),
            "weight_decay": 0.1 if decays(name, parameter) else 0.0,
            "lr_scale": scale(name),
            "layer_id": layer_id(name, layers),
        }
        for name, parameter in model.named_parameters()
        if name != "encoder.mask_token"
    }
    faults = {"decayed_although_listed_as_no_decay": [], "decayed_and_not_listed": []}
    return faults | {"parameters": given, "weight_decay": 0.1, "layer_decay": 0.6}


def train_steps(folder):
    """Four micro-batches an epoch, by twos, and by threes with one left over."""
    config = {"iters": 4, "epochs": 2, "accum": [2, 3], "batch": 1, "model": "simmim_swin.npz"}
    config |= {"base_lr": 1e-3, "warmup": 1, "warmup_lr": 1e-5, "min_lr": 1e-4, "clip": 0.7}
    config |= {"wd": 0.1}
    side = SWIN["img"] // SWIN["patch"]
    x = torch.randn(config["iters"], config["batch"], 3, SWIN["img"], SWIN["img"])
    hidden = torch.rand(config["iters"], config["batch"], side, side) < 0.5
    arrays = {"x": x, "mask": hidden.long()}
    for accumulated in config["accum"]:
        model = pretraining_model(Golden("simmim_swin", folder))
        got, seen = train(model, config, x, hidden, accumulated)
        for key in ("loss", "grad_norm"):
            whole = np.zeros(config["iters"] * config["epochs"])
            whole[seen] = got[key]
            got[key] = whole
        arrays |= {f"accum{accumulated}/{key}": value for key, value in got.items()}
    return {"config": config}, arrays
