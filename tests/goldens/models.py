"""mimray's models at the sizes of a golden file, with the official weights loaded by their names."""

import torch

from mimray import weights
from mimray.downstream.classifier import Classifier
from mimray.mim.build import assemble
from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.encoders.swinv2 import SwinV2Encoder
from mimray.mim.encoders.vit import ViTEncoder
from mimray.mim.targets import build_target
from mimray.recipe import TargetSettings

# Official classifiers have neither; their SwinV2 has coordinates instead of the windows.
OWN_NAMES = ("encoder.mask_token", "encoder.bias_windows")


def build_encoder(config, image_size=None, window=None, **options):
    """An encoder of a golden's `config`, for its own picture and window or others."""
    family = {"swin": SwinEncoder, "swinv2": SwinV2Encoder, "vit": ViTEncoder}[config["type"]]
    depth = {"depths": config["depths"]} if "depths" in config else {"depth": config["depth"]}
    windows = {} if config["type"] == "vit" else {"window": window or config["window"]}
    return family(
        image_size=image_size or config["img"],
        drop_path=0.0,
        embed=config["embed"],
        heads=config["heads"],
        patch=config["patch"],
        **windows,
        **depth,
        **options,
    )


def official_weights(golden):
    """The whole official state, buffers too."""
    return golden.weights("param/", "buffer/")


def build_pretraining(config, target="pixels"):
    """The masked image model of a `config`, with fresh weights, in evaluation."""
    settings = TargetSettings(kind=target, window=config.get("norm_patch", 47))
    side = config["img"] // config["stride"]
    target = build_target(settings, config["img"])
    return assemble(build_encoder(config), target, (side, side)).eval()


def pretraining_model(golden, target="pixels"):
    """The same with the official weights."""
    model = build_pretraining(golden.info["config"], target)
    report = weights.load(model, official_weights(golden))
    # a file without SwinV2's coordinates does not tell the windows its bias was learned at
    assert set(report.missing) <= {"encoder.bias_windows"} and not report.resized
    return model


def classifier(config, finetuning):
    """The classifier that is fine-tuned from a golden's `config`, with fresh weights."""
    options = {}
    if config["type"] == "vit":
        options = {"position": "per_block", "final_norm": False}
    if config["type"] == "swinv2":
        options = {"pretrained_windows": tuple(finetuning["pretrained_window_sizes"])}
    encoder = build_encoder(config, finetuning["img"], finetuning.get("window"), **options)
    return Classifier(encoder, finetuning["num_classes"]).eval()


def official_names(model):
    """Official names of a model's parameters, by mimray's."""
    state = {n: t for n, t in model.state_dict().items() if n not in OWN_NAMES}
    names = dict(zip(state, weights.FORMATS["official"].write(state), strict=True))
    return {name: name for name in OWN_NAMES} | names


def official_gradients(model):
    """Gradients under the official names, in the official shapes."""
    return weights.FORMATS["official"].write({n: p.grad for n, p in model.named_parameters()})


def images(golden):
    """The picture and its mask, as the model takes them."""
    return golden.tensor("x"), golden.tensor("mask").bool()


def recorded(model, inputs):
    """What passes through an encoder, by the goldens' names, token maps as (B, tokens, C)."""
    seen, hooks = {}, []

    def keep(key):
        def hook(module, given, output):
            seen[key] = flat(output)

        return hook

    encoder = model.encoder
    if encoder.family == "vit":
        first = encoder.blocks[0]
        places = {f"block{i}": block for i, block in enumerate(encoder.blocks)}
    else:
        first = encoder.layers[0]
        places = {f"stage{i}_blocks": stage.blocks[-1] for i, stage in enumerate(encoder.layers)}
        places |= {f"stage{i}_merged": s.downsample for i, s in enumerate(encoder.layers[1:])}
    hooks = [module.register_forward_hook(keep(key)) for key, module in places.items()]
    hooks.append(
        first.register_forward_pre_hook(lambda m, given: seen.update(tokens_in=flat(given[0])))
    )
    with torch.no_grad():
        seen["encoder_out"] = encoder(*inputs)[-1]
    for hook in hooks:
        hook.remove()
    return seen


def flat(tokens):
    """(B, rows, columns, C) or (B, tokens, C) -> (B, tokens, C)."""
    return tokens.flatten(1, -2)
