"""Weights of random models of the transformers library, saved as people save them, read back.

Nothing is downloaded: the models are made from a configuration. Every number that the model gave is
looked for under its part, layer, item and head.
"""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("default")  # of the library, whose warnings are not ours

WORDS = 41  # in the vocabularies
ITEMS, SOURCE, TARGET, HEADS = 2, 7, 5, 3
NEW = 4  # generated tokens


# The models, and what they give: the weights of each part, as a tensor a layer.


def seeded(kind, configuration, **options):
    torch.manual_seed(5)
    made = getattr(transformers, configuration)(**options, attn_implementation="eager")
    return getattr(transformers, kind)(made).eval()


def ids(steps, start=3):
    return (torch.arange(ITEMS * steps).reshape(ITEMS, steps) * 5) % (WORDS - start) + start


@functools.cache
def bert():
    return seeded(
        "BertModel", "BertConfig", vocab_size=WORDS, hidden_size=12, num_hidden_layers=4,
        num_attention_heads=HEADS, intermediate_size=8,
    )  # fmt: skip


@functools.cache
def gpt2():
    return seeded(
        "GPT2LMHeadModel", "GPT2Config", vocab_size=WORDS, n_embd=12, n_layer=2, n_head=HEADS,
        n_positions=31, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip


@functools.cache
def llama():
    return seeded(
        "LlamaForCausalLM", "LlamaConfig", vocab_size=WORDS, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=8, eos_token_id=None,
        bos_token_id=1, pad_token_id=0,
    )  # fmt: skip


@functools.cache
def vit():
    return seeded(
        "ViTModel", "ViTConfig", image_size=12, patch_size=4, hidden_size=12, num_hidden_layers=2,
        num_attention_heads=HEADS, intermediate_size=8,
    )  # fmt: skip


@functools.cache
def t5():
    return seeded(
        "T5ForConditionalGeneration", "T5Config", vocab_size=WORDS, d_model=12, d_kv=4, d_ff=8,
        num_layers=3, num_decoder_layers=2, num_heads=HEADS, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=None,
    )  # fmt: skip


@functools.cache
def bart(kind="Bart"):
    return seeded(
        f"{kind}ForConditionalGeneration" if kind == "Bart" else f"{kind}MTModel", f"{kind}Config",
        vocab_size=WORDS, d_model=12, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=8,
        decoder_ffn_dim=8, encoder_attention_heads=HEADS, decoder_attention_heads=HEADS,
        max_position_embeddings=31, decoder_start_token_id=2, pad_token_id=1, eos_token_id=None,
        bos_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip


@functools.cache
def whisper():
    return seeded(
        "WhisperForConditionalGeneration", "WhisperConfig", vocab_size=WORDS, num_mel_bins=8,
        d_model=12, encoder_layers=2, decoder_layers=2, encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS, encoder_ffn_dim=8, decoder_ffn_dim=8,
        max_source_positions=53, max_target_positions=31, decoder_start_token_id=2, pad_token_id=1,
        eos_token_id=None, bos_token_id=0, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip


@functools.cache
def output(model):
    """What one forward pass gives."""
    told = {"output_attentions": True}
    with torch.no_grad():
        if model == "bert":
            return bert()(ids(SOURCE), **told)
        if model == "vit":
            return vit()(torch.randn(ITEMS, 3, 12, 12), **told)
        if model in ("gpt2", "llama"):
            return globals()[model]()(ids(SOURCE), **told)
        if model == "whisper":
            heard = torch.randn(ITEMS, 8, 106)
            return whisper()(heard, decoder_input_ids=ids(TARGET), **told)
        made = t5() if model == "t5" else bart(model.capitalize())
        return made(input_ids=ids(SOURCE), decoder_input_ids=ids(TARGET), **told)


FIELDS = {
    "": "attentions", "encoder": "encoder_attentions", "decoder": "decoder_attentions",
    "cross": "cross_attentions",
}  # fmt: skip


def parts_of(given):
    """The weights of each part, a tensor a layer; only those that the model gave."""
    held = {part: given.get(field) for part, field in FIELDS.items()}
    return {part: list(layers) for part, layers in held.items() if layers}


def arrays(layers):
    return [layer.numpy() for layer in layers]


# What people write.


def a_list(folder, layers):
    np.savez(folder / "w.npz", *arrays(layers))
    return folder / "w.npz"


def names(spelling):
    def save(folder, layers):
        named = {spelling.format(number): layer for number, layer in enumerate(arrays(layers))}
        np.savez(folder / "w.npz", **named)
        return folder / "w.npz"

    save.__name__ = spelling
    return save


def a_stack(folder, layers):
    np.save(folder / "w.npy", np.stack(arrays(layers)))
    return folder / "w.npy"


def a_field(folder, layers):
    np.savez(folder / "w.npz", attentions=np.stack(arrays(layers)))
    return folder / "w.npz"


def safetensors(folder, layers):
    from safetensors.torch import save_file

    named = {f"attentions.{n}": layer.contiguous() for n, layer in enumerate(layers)}
    save_file(named, folder / "w.safetensors")
    return folder / "w.safetensors"


def json_text(folder, layers):
    (folder / "w.json").write_text(json.dumps([layer.tolist() for layer in layers]))
    return folder / "w.json"


ONE_PART = [
    a_list, names("layer_{}"), names("layer.{}"), names("attentions.{}"), names("{}"),
    names("blocks.{}.attn.hook_pattern"), names("encoder.layer.{}.attention"),
    names("transformer.h.{}.attn.attn_dropout"), a_stack, a_field, safetensors, json_text,
]  # fmt: skip


def fields(folder, parts):
    """The output object's fields, each stacked."""
    np.savez(folder / "w.npz", **{FIELDS[p]: np.stack(arrays(x)) for p, x in parts.items()})
    return folder / "w.npz"


def a_name_each(spelling, called):
    """Every layer under a name of its own, of what its part is called and its number."""

    def save(folder, parts):
        named = {
            spelling.format(called[part], number): layer
            for part, layers in parts.items()
            for number, layer in enumerate(arrays(layers))
        }
        np.savez(folder / "w.npz", **named)
        return folder / "w.npz"

    save.__name__ = spelling
    return save


def fields_of_layers(spelling):
    return a_name_each(spelling, FIELDS)


def words_of_parts(spelling):
    return a_name_each(spelling, {part: part for part in FIELDS})


def fields_in_safetensors(folder, parts):
    from safetensors.torch import save_file

    named = {FIELDS[part]: torch.stack(layers) for part, layers in parts.items()}
    save_file(named, folder / "w.safetensors")
    return folder / "w.safetensors"


THREE_PARTS = [
    fields, fields_of_layers("{}_{}"), fields_of_layers("{}.{}"), words_of_parts("{}.{}"),
    words_of_parts("{}_layer_{}"), words_of_parts("{}{}"), fields_in_safetensors,
]  # fmt: skip


# What show-weights says of it.


def shown(attn, file, *options):
    """Every matrix that is shown, by its part, layer, item and head."""
    result = attn("show-weights", file, *options, "--json")
    assert result.code == 0, result.err
    assert result.err == "" or "--axes" in result.err  # what may be read otherwise is said
    return {
        (m["part"] or "", m["layer"] or 0, m["item"] or 0, m["head"] or 0): np.array(m["weights"])
        for m in result.json["matrices"]
    }


def given(parts):
    """Every matrix of the model, by its part, layer, item and head."""
    return {
        (part, number, item, head): matrix
        for part, layers in parts.items()
        for number, layer in enumerate(layers)
        for item, heads in enumerate(np.asarray(layer.float()))
        for head, matrix in enumerate(heads)
    }


def assert_the_same(found, right, error=0):
    assert found.keys() == right.keys()
    for place, matrix in right.items():
        assert found[place].shape == matrix.shape, place
        np.testing.assert_allclose(found[place], matrix, rtol=0, atol=error, err_msg=str(place))


@pytest.mark.parametrize("save", ONE_PART, ids=lambda save: save.__name__)
@pytest.mark.parametrize("model", ["bert", "gpt2", "llama", "vit"])
def test_a_model_of_one_part_is_read_in_every_form(attn, tmp_path, model, save):
    (layers,) = parts_of(output(model)).values()
    part = "encoder" if save.__name__.startswith("encoder") else ""
    assert_the_same(shown(attn, save(tmp_path, layers)), given({part: layers}))


@pytest.mark.parametrize("save", THREE_PARTS, ids=lambda save: save.__name__)
@pytest.mark.parametrize("model", ["t5", "bart", "marian", "whisper"])
def test_a_model_of_three_parts_is_read_in_every_form(attn, tmp_path, model, save):
    parts = parts_of(output(model))
    file = save(tmp_path, parts)
    assert_the_same(shown(attn, file), given(parts))
    for part in parts:
        assert_the_same(shown(attn, file, "--part", part), given({part: parts[part]}))


# generate(): a tuple a step, in it a tensor a layer.


def put_together(steps):
    """One matrix a layer and head of what the steps give: a row a query, 0 where no key was yet."""
    layers = []
    for number in range(len(steps[0])):
        whole = steps[-1][number]
        if whole.shape[2] == 1:
            rows = [step[number] for step in steps]
            keys = rows[-1].shape[3]
            rows = [torch.nn.functional.pad(row, (0, keys - row.shape[3])) for row in rows]
            whole = torch.cat(rows, dim=2)
        layers.append(whole)
    return layers


@functools.cache
def generated(model, cache=True, beams=1):
    made = {"gpt2": gpt2, "llama": llama, "t5": t5, "whisper": whisper}[model]()
    asked = torch.randn(ITEMS, 8, 106) if model == "whisper" else ids(SOURCE)
    told = {} if model == "whisper" else {"attention_mask": torch.ones_like(asked)}
    return made.generate(
        asked, **told, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, num_beams=beams,
        use_cache=cache, output_attentions=True, return_dict_in_generate=True,
    )  # fmt: skip


def steps_of(answer):
    """What grew by steps: the part's field, and the tuple of tuples."""
    return {
        field: steps
        for part, field in FIELDS.items()
        if part != "encoder" and (steps := answer.get(field)) is not None
    }


def test_the_library_gives_a_row_a_step_as_these_tests_take_it_to():
    """Else the others would compare with something else than people have."""
    shapes = [step[0].shape for step in generated("gpt2").attentions]
    assert shapes[0] == (ITEMS, HEADS, SOURCE, SOURCE)
    assert shapes[1:] == [(ITEMS, HEADS, 1, SOURCE + n) for n in range(1, NEW)]


@pytest.mark.parametrize(
    "spelling", ["step{}_layer{}", "steps.{}.layers.{}", "{}_{}", "attentions_{}_{}"]
)
@pytest.mark.parametrize(
    ("model", "options"),
    [("gpt2", {}), ("gpt2", {"cache": False}), ("gpt2", {"beams": 3}), ("llama", {})],
)
def test_steps_of_layers_become_one_matrix_a_layer_and_head(
    attn, tmp_path, model, options, spelling
):
    steps = generated(model, **options).attentions
    named = {
        spelling.format(number, layer): weights.numpy()
        for number, step in enumerate(steps)
        for layer, weights in enumerate(step)
    }
    np.savez(tmp_path / "w.npz", **named)
    assert_the_same(shown(attn, tmp_path / "w.npz"), given({"": put_together(steps)}))


@pytest.mark.parametrize("model", ["t5", "whisper"])
@pytest.mark.parametrize("spelling", ["{}_{}_{}", "{}.{}.{}", "{}_step{}_layer{}"])
def test_the_steps_of_three_parts_are_put_together_part_by_part(attn, tmp_path, model, spelling):
    answer = generated(model)
    named = {
        spelling.format(field, number, layer): weights.numpy()
        for field, steps in steps_of(answer).items()
        for number, step in enumerate(steps)
        for layer, weights in enumerate(step)
    }
    for layer, weights in enumerate(answer.encoder_attentions):
        named[f"encoder_attentions_{layer}"] = weights.numpy()
    np.savez(tmp_path / "w.npz", **named)
    right = {"encoder": list(answer.encoder_attentions)}
    right |= {field.split("_")[0]: put_together(x) for field, x in steps_of(answer).items()}
    assert_the_same(shown(attn, tmp_path / "w.npz"), given(right))


def test_one_array_a_step_of_one_layer_is_steps(attn, tmp_path):
    steps = [step[-1:] for step in generated("gpt2").attentions]
    np.savez(tmp_path / "w.npz", *[step[0].numpy() for step in steps])
    assert_the_same(shown(attn, tmp_path / "w.npz"), given({"": put_together(steps)}))


# torch.save, and what the hint says when it is followed word for word.


def follow(attn, file):
    """What the hint writes."""
    result = attn("show-weights", file)
    assert result.code == 2
    command = re.search(r"python3? -c .*", result.err, re.DOTALL)
    assert command, result.err
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    before = set(Path.cwd().iterdir())
    packages = os.pathsep.join(
        dict.fromkeys(Path(m.__file__).parent.parent.as_posix() for m in (torch, np))
    )
    done = subprocess.run(
        ["sh", "-c", command[0]],
        env=os.environ | {"PATH": path, "PYTHONPATH": packages}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (command[0], done.stderr)
    (made,) = set(Path.cwd().iterdir()) - before
    return made


@functools.cache
def torch_forms():
    """What is saved, and what is to be read of it."""
    layers = output("bert").attentions
    half = tuple(layer.bfloat16() for layer in layers)
    grown, answer = generated("gpt2").attentions, generated("t5")
    fields = {field: output("t5").get(field) for field in [*FIELDS.values()][1:]}
    named = {f"layer.{number}": layer for number, layer in enumerate(layers)}
    encoded = {"encoder_attentions": answer.encoder_attentions}
    put = {field.split("_")[0]: put_together(x) for field, x in steps_of(answer).items()}
    return {
        "a tuple": (layers, {"": layers}),
        "a list": ([*layers], {"": layers}),
        "a dict of a list": ({"attentions": [*layers]}, {"": layers}),
        "a dict of names": (named, {"": layers}),
        "a stack": (torch.stack(layers), {"": layers}),
        "one tensor": (layers[0], {"": layers[:1]}),
        "bfloat16": (half, {"": half}),
        "requires grad": ([x.clone().requires_grad_() for x in layers], {"": layers}),
        "three parts": (fields, parts_of(output("t5"))),
        "the output object": (output("bert"), {"": layers}),
        "generate": (grown, {"": put_together(grown)}),
        "generate, three parts": (
            steps_of(answer) | encoded, {"encoder": answer.encoder_attentions} | put
        ),
    }  # fmt: skip


TORCH_FORMS = (
    "a tuple", "a list", "a dict of a list", "a dict of names", "a stack", "one tensor", "bfloat16",
    "requires grad", "three parts", "the output object", "generate", "generate, three parts",
)  # fmt: skip


@pytest.mark.parametrize("form", TORCH_FORMS)
def test_the_hint_of_a_torch_file_works_when_followed(attn, folder, form):
    saved, right = torch_forms()[form]
    torch.save(saved, "my weights.pt")
    assert_the_same(shown(attn, follow(attn, Path("my weights.pt"))), given(right))


# Words.


TEXT = ["the weather in lisbon was surprisingly mild", "unbearable lightness — 😀 indeed"]


@functools.cache
def tokenizer(kind):
    """A tokenizer of the library's own making, trained on two lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet)
    elif kind == "pieces":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=WORDS, unk_token="<unk>", special_tokens=["<unk>"]
        )
    else:
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(vocab_size=60, special_tokens=["[PAD]", "[UNK]"])
    made.train_from_iterator(TEXT, trainer)
    return made


@pytest.mark.parametrize("kind", ["bytes", "pieces", "parts"])
@pytest.mark.parametrize("form", ["(1, T)", "(T,)", "torch"])
def test_ids_become_words_by_the_tokenizers_own_file(attn, folder, kind, form):
    made = tokenizer(kind)
    made.save("tokenizer.json")
    encoded = made.encode(TEXT[1])
    steps = len(encoded.ids)
    weights = np.tril(np.ones((1, HEADS, steps, steps), np.float32))
    weights /= weights.sum(-1, keepdims=True)
    numbers = np.array(encoded.ids)
    np.savez("w.npz", layer_0=weights, input_ids=numbers if form == "(T,)" else numbers[None])
    if form == "torch":
        from safetensors.torch import save_file

        save_file(
            {"layer_0": torch.tensor(weights), "input_ids": torch.tensor(numbers)[None]},
            "w.safetensors",
        )
    file = "w.safetensors" if form == "torch" else "w.npz"
    result = attn("show-weights", file, "--tokens", "tokenizer.json", "--head", 0, "--json")
    assert result.code == 0, result.err
    (matrix,) = result.json["matrices"]
    assert matrix["tokens_dec"] == matrix["tokens_enc"] == encoded.tokens


def test_words_of_each_item_are_its_own_and_padding_is_left_out(attn, folder):
    lengths = [SOURCE, SOURCE - 3]
    mask = torch.tensor([[1] * length + [0] * (SOURCE - length) for length in lengths])
    asked = ids(SOURCE) * mask
    with torch.no_grad():
        layers = bert()(asked, attention_mask=mask, output_attentions=True).attentions
    named = {f"layer_{n}": layer for n, layer in enumerate(arrays(layers))}
    np.savez("w.npz", **named, input_ids=asked.numpy(), attention_mask=mask.numpy())
    for item, length in enumerate(lengths):
        result = attn(
            "show-weights",
            "w.npz",
            "--item",
            item,
            "--layer",
            1,
            "--head",
            2,
            "--drop-pad",
            "--json",
        )
        assert result.code == 0, result.err
        (matrix,) = result.json["matrices"]
        np.testing.assert_array_equal(matrix["weights"], layers[1][item, 2, :length, :length])
        assert matrix["tokens_dec"] == [str(int(i)) for i in asked[item, :length]]


def test_the_words_of_source_and_target_stand_at_their_own_sides(attn, folder):
    parts = parts_of(output("t5"))
    fields(folder, parts)
    source, target = [f"s{n}" for n in range(SOURCE)], [f"t{n}" for n in range(TARGET)]
    words = ("--tokens-enc", ",".join(source), "--tokens-dec", ",".join(target))
    sides = {"encoder": (source, source), "decoder": (target, target), "cross": (target, source)}
    result = attn("show-weights", "w.npz", *words, "--json")
    assert result.code == 0, result.err
    for matrix in result.json["matrices"]:
        assert (matrix["tokens_dec"], matrix["tokens_enc"]) == sides[matrix["part"]]
