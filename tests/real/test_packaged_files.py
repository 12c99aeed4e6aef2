"""The unpacked folder is the GGUF file's model: configuration, tokenizer and weights, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from patchboard.engine.load import load_weights, open_config, open_model
from patchboard.engine.package_fetch import installed_parts, whole_file
from patchboard.spec.packaged import PACKAGED
from patchboard.spec.sections import ModelSection

TEXT = "France : Paris\nnaïve café → 0110 1234, don't  stop\n\t“x”"


def test_the_folder_is_the_file(loaded, tmp_path):
    row = PACKAGED[loaded.name]
    if not installed_parts(row):
        pytest.skip(f"{row.requirement} is not installed here, only unpacked")
    file = ModelSection(name=str(whole_file(row, Path(tmp_path / row.file), tmp_path)))
    folder = ModelSection(name=loaded.name)
    own, state = load_weights(file, "cpu", "float32").state_dict(), loaded.model.state_dict()
    assert own.keys() == state.keys()
    assert [name for name, value in own.items() if not torch.equal(value, state[name])] == []

    configs = [open_config(section).to_dict() for section in (file, folder)]
    for config in configs:
        for told in ("_name_or_path", "quantization_config", "dtype", "architectures", "transformers_version"):
            config.pop(told, None)
    assert configs[0] == configs[1]
    (of_file, facts), (of_folder, own_facts) = open_model(file), open_model(folder)
    assert of_file.backend_tokenizer.to_str() == of_folder.backend_tokenizer.to_str()
    assert of_file(TEXT).input_ids == of_folder(TEXT).input_ids and facts == own_facts


def test_it_knows_a_capital(loaded):
    tokens = loaded.tokenizer("Japan : Tokyo\nItaly : Rome\nGermany : Berlin\nFrance :", return_tensors="pt").input_ids
    with torch.no_grad():
        likeliest = loaded.model(tokens).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(likeliest) == " Paris"
