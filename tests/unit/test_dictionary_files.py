"""What a dictionary's files say of it, in all spellings of SAELens, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from patchboard.errors import SpecError
from patchboard.spec.places import Onwards, Together
from patchboard.spec.sections import ModelSection
from patchboard.spec.vectors import VectorSection
from patchboard.vectors.dictionaries.config import Config, config_of
from patchboard.vectors.dictionaries.dictionary import dictionary_at, opened
from patchboard.vectors.dictionaries.files import config_beside, files_of, weights_named
from patchboard.vectors.dictionaries.weights import all_features
from patchboard.vectors.files.given import Use
from tests.dictionaries import literal_sae, tensors, write_dictionary

WIDTH, SIZE = 8, 12

SPELLINGS = {
    "SAELens 6": (
        {"architecture": "jumprelu", "apply_b_dec_to_input": False, "normalize_activations": "none",
         "metadata": {"hook_name": "blocks.7.hook_resid_post", "model_name": "gpt2-small"}},
        Config("jumprelu", "blocks.7.hook_resid_post", "gpt2-small", shifted=False), (7, "resid_post"),
    ),
    "SAELens 3 to 5": (
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 32}, "hook_name": "blocks.3.hook_mlp_out",
         "hook_head_index": None, "model_name": "pythia-70m", "normalize_activations": "layer_norm",
         "model_from_pretrained_kwargs": {"center_writing_weights": True}},
        Config("topk", "blocks.3.hook_mlp_out", "pythia-70m", norm="layer_norm", centred=True, k=32), (3, "mlp_out"),
    ),
    "the first ones": (
        {"hook_point": "blocks.8.hook_resid_pre", "hook_point_layer": 8, "hook_point_head_index": None,
         "model_name": "gpt2-small", "normalize_activations": False, "activation_fn": "relu"},
        Config("standard", "blocks.8.hook_resid_pre", "gpt2-small"), (8, "resid_pre"),
    ),
    "top-k in lengths of the decoder": (
        {"architecture": "topk", "k": 4, "rescale_acts_by_decoder_norm": True, "metadata": {}},
        Config("topk", rescaled=True, k=4), None,
    ),
    "a hook that has no name here": (
        {"metadata": {"hook_name": "blocks.2.hook_resid_mid"}}, Config("standard", "blocks.2.hook_resid_mid"), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_configs_of_all_versions(spelling):
    told, expected, place = SPELLINGS[spelling]
    found = config_of(told, "f", "v")
    assert found == expected and found.place == place


REFUSED = {
    "gated": ({"architecture": "gated"}, "architecture gated, expected one of standard, jumprelu, topk"),
    "transcoder": ({"architecture": "transcoder"}, "architecture transcoder"),
    "tanh": ({"activation_fn_str": "tanh-relu"}, "activation tanh-relu, expected relu or topk"),
    "no k": ({"architecture": "topk"}, "names no k"),
    "k is no number": ({"architecture": "topk", "k": True}, "names no k"),
    "heads": ({"hook_name": "blocks.1.attn.hook_z"}, "attention heads' outputs"),
    "one head": ({"hook_name": "blocks.1.hook_q", "hook_head_index": 3}, "attention heads' outputs"),
    "a factor": ({"normalize_activations": "expected_average_only_in"}, "fold the factor into the weights"),
    "a factor, at first": ({"normalize_activations": True}, "by a factor that is not in it"),
    "a norm": ({"normalize_activations": "unit"}, "normalize_activations unit, expected one of none, constant_norm"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_encodes_otherwise_is_refused(case):
    told, says = REFUSED[case]
    with pytest.raises(SpecError) as refused:
        config_of(told, "f", "interventions.a.vector.sae")
    assert says in str(refused.value) and "; " in str(refused.value)


def use(layer=1, site="resid_post", model="someone/tiny", width=WIDTH):
    return Use(ModelSection(name=model), layer, -1, site, '"last"', width, 0, "", "features")


def vector(path, **more):
    return VectorSection(sae=path, features=[0], **more)


@pytest.fixture
def path(tmp_path):
    return write_dictionary(
        tmp_path / "d", tensors(WIDTH, SIZE), hook_name="blocks.1.hook_resid_post", model_name="tiny"
    )


def test_it_is_used_where_it_was_trained(path):
    found = dictionary_at(vector(path), use(), "llama", "v")
    assert found.size == SIZE and len(found.sha256) == 64
    # the output of a block is the input of the next one
    assert dictionary_at(vector(path), use(2, "resid_pre"), "llama", "v") == found
    elsewhere = {"fitted_at": {"layer": 1, "site": "resid_post", "model": "tiny"}}
    assert dictionary_at(vector(path, **elsewhere), use(4, "attn_out", "other/model"), "llama", "v") == found


@pytest.mark.parametrize(
    ("more", "used", "family", "says"),
    [
        ({}, use(2), "llama", "of another place: layer 1 there, 2 here; edit there, or write fitted_at: {layer: 1}"),
        (
            {},
            use(1, "mlp_out"),
            "llama",
            "site resid_post there, mlp_out here; edit there, or write fitted_at: {site: ",
        ),
        (
            {},
            use(model="a/other"),
            "llama",
            'model tiny there, a/other here; edit there, or write fitted_at: {model: "',
        ),
        ({"fitted_at": {"layer": 3}}, use(2), "llama", "layer 1 there, 3 here"),
        ({"fitted_at": {"model": "huge"}}, use(), "llama", "model tiny there, huge here"),
        ({}, use(width=6), "llama", "is of width 8, the model's states at resid_post have 6; use a dictionary of this"),
        (
            {"fitted_at": {"layer": 1, "site": "resid_post"}},
            use(1, "mlp_out"),
            "gemma2",
            "behind the norm that follows",
        ),
    ],
)
def test_another_place_is_refused(path, more, used, family, says):
    with pytest.raises(SpecError) as refused:
        dictionary_at(vector(path, **more), used, family, "v")
    assert says in str(refused.value)


def test_a_hook_without_a_name_needs_a_place(tmp_path):
    path = write_dictionary(tmp_path, tensors(WIDTH, SIZE), hook_name="blocks.1.hook_resid_mid", model_name="tiny")
    with pytest.raises(
        SpecError, match=r"hook_resid_mid, which is no site here; write fitted_at: \{layer: 1, site: re"
    ):
        dictionary_at(vector(path), use(), "llama", "v")
    assert dictionary_at(vector(path, fitted_at={"layer": 1, "site": "resid_post"}), use(), "llama", "v").size == SIZE


def test_gemma_scope_s_params(tmp_path):
    """No config: JumpReLU, nothing subtracted before, held against the width alone."""
    weights = tensors(WIDTH, SIZE, threshold=True)
    np.savez(tmp_path / "params.npz", **{name: tensor.numpy() for name, tensor in weights.items()})
    found = dictionary_at(vector(str(tmp_path / "params.npz")), use(5, model="google/gemma-2-2b"), "gemma2", "v")
    h = torch.randn(3, WIDTH)
    f = all_features(found).active(h)[0]
    expected = [literal_sae(weights, row, architecture="jumprelu", apply_b_dec_to_input=False)[0] for row in h]
    torch.testing.assert_close(f, torch.stack(expected))


def test_a_damaged_npz_is_one_line(tmp_path):
    """Of a large one too, whose arrays are read when they are asked for."""
    weights = tensors(WIDTH, 4000, threshold=True)
    file = tmp_path / "params.npz"
    np.savez(file, **{name: tensor.numpy() for name, tensor in weights.items()})
    whole = bytearray(file.read_bytes())
    whole[whole.index(b"W_dec.npy") + 100_000] ^= 0xFF
    file.write_bytes(bytes(whole))
    damaged, _ = opened(str(file), "v")
    with pytest.raises(SpecError, match="'W_dec' cannot be read .*; fetch it again"):
        all_features(damaged)


def test_files_that_do_not_fit_are_refused(tmp_path):
    def says(name, weights=None, **config):
        path = write_dictionary(tmp_path / name, tensors(WIDTH, SIZE), **config)
        if weights is not None:
            save_file(weights, path)
        with pytest.raises(SpecError) as refused:
            all_features(opened(path, "v")[0])
        return str(refused.value)

    whole = tensors(WIDTH, SIZE)
    assert "W_enc of" in says("none", {"encoder.weight": torch.zeros(2, 2)})
    assert "W_dec of" in says("turned", whole | {"W_dec": whole["W_dec"].T.contiguous()})
    assert "threshold of" in says("jump", whole, architecture="jumprelu")
    assert "holds NaN" in says("nan", whole | {"b_enc": torch.full((SIZE,), math.nan)})
    assert "scaling_factor of other" in says("scaled", whole | {"scaling_factor": torch.full((SIZE,), 2.0)})
    path = write_dictionary(tmp_path / "fine", whole | {"scaling_factor": torch.ones(SIZE)})
    assert all_features(opened(path, "v")[0]).decoder.shape == (SIZE, WIDTH)
    for told in ('{"activation_fn": "topk", "activation_fn_kwargs": [3]}', '{"model_from_pretrained_kwargs": [1]}'):
        (tmp_path / "fine" / "cfg.json").write_text(told)
        with pytest.raises(SpecError, match="values of other types"):
            opened(path, "v")
    (tmp_path / "fine" / "cfg.json").write_text("[1]")
    with pytest.raises(SpecError, match="is no JSON mapping"):
        opened(path, "v")
    (tmp_path / "fine" / "cfg.json").unlink()
    with pytest.raises(SpecError, match="there is no file"):
        opened(path, "v")
    with pytest.raises(SpecError, match=r"ends in '.pt', expected .safetensors or .npz"):
        (tmp_path / "d.pt").write_bytes(b"")
        opened(str(tmp_path / "d.pt"), "v")


def test_a_family_of_dictionaries_one_a_layer(tmp_path):
    for layer in (0, 2, 10):
        write_dictionary(tmp_path / f"l{layer}" / f"x{layer}", tensors(WIDTH, SIZE, layer))
    write_dictionary(tmp_path / "l1" / "x2", tensors(WIDTH, SIZE))
    form = str(tmp_path / "l{layer}" / "x{layer}" / "sae_weights.safetensors")
    assert weights_named(form, "all", "v") == [form.replace("{layer}", str(n)) for n in (0, 2, 10)]
    with pytest.raises(SpecError, match="of any layer"):
        weights_named(form.replace("l{", "m{"), "all", "v")


def test_files_of_the_hub():
    assert config_beside("hf://a/b/c/d.safetensors@main") == "hf://a/b/c/cfg.json@main"
    assert files_of("hf://a/b/c/params.npz") == ["hf://a/b/c/params.npz"]
    form = "hf://a/b/blocks.{layer}/sae_weights.safetensors"
    for layers, numbers in ((3, [3]), ([1, 4], [1, 4]), ("0:6:2", [0, 2, 4]), (Together(together=[2]), [2])):
        assert weights_named(form, layers, "v") == [form.replace("{layer}", str(n)) for n in numbers]
    for layers in ("all", "2:", [-1], Onwards(onwards="all")):
        with pytest.raises(SpecError, match="write the layers as numbers"):
            weights_named(form, layers, "v")
