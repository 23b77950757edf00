"""Encoders of sound that `save_pretrained` wrote: audio spectrogram transformers, wav2vec 2.0, HuBERT, data2vec, WavLM
and Whisper's encoder, with the settings of their feature extractor."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from headstart.errors import InputError, shortened
from headstart.modalities.batch import Batch
from headstart.modalities.waveform.filter_bank import HOP, RATE, WINDOW
from headstart.modalities.waveform.preprocessing import Waves
from headstart.modalities.waveform.section import WaveformInput
from headstart.models.foreign import Original
from headstart.models.foreign.transformers import check_size, filled, holds_head, labels_of, refuse_code, without_memory
from headstart.models.waveform import (
    FRAMES_A_STATE,
    KINDS,
    SPECTROGRAM,
    WHISPER,
    architecture_of,
    as_network,
    configuration,
    frames_read,
    model_class,
    settings_of,
    split_own,
)

__all__ = ["KINDS", "of_config"]

_LONGEST = 30.0
# The vector of hidden parts of a sound, which training without labels alone uses.
_HIDDEN = "masked_spec_embed"


def of_config(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    extractor: Mapping[str, Any] | None,
    *,
    at: str,
    facts: Mapping[str, Any],
) -> Original:
    """Return the model that a config.json describes, with the weights of a state dict and the settings of its feature
    extractor, preprocessor_config.json, or the usual ones where there is none.

    A checkpoint of the encoder alone has no head; other parts, such as a decoder of speech, are left out.

    Raises:
        InputError: the configuration asks for code, the extractor for what is not read, or the weights are another
            model's.
    """
    refuse_code(config, at)
    kind = str(config["model_type"])
    labels = labels_of(config)
    try:
        settings = settings_of(kind, config)
        whole = configuration(kind, settings)
    except InputError as error:
        raise InputError(f"{at}: {error}") from None
    whole.num_labels = len(labels)
    check_size(without_memory(lambda: model_class(kind)(whole), at), state, at)
    model, found = filled(model_class(kind), whole, state, at)
    ends = [end for end in ("classifier", "projector") if hasattr(model, end)]
    unused = {name for name in found["missing_keys"] if name.rpartition(".")[2] == _HIDDEN}
    missing = {name for name in found["missing_keys"] if name not in unused}
    has_head = holds_head({**found, "missing_keys": missing}, ends, at)
    own, rate = _read(kind, whole, extractor or {}, at)
    if kind != SPECTROGRAM:
        own["projected"] = has_head
    own, _ = split_own(kind, own)
    seconds = _seconds(kind, whole)
    if kind == SPECTROGRAM and not has_head:
        model.classifier.dense = torch.nn.Identity()
    classes = labels if has_head else ()

    def part_of(name: str) -> str:
        return name.removeprefix(f"{model.base_model_prefix}.").partition(".")[0]

    return Original(
        architecture=architecture_of(kind, settings, own),
        preprocessing=Waves(WaveformInput(rate=rate, seconds=min(_LONGEST, max(0.1, seconds)))),
        classes=classes,
        network=lambda: as_network(model, kind, own, classes=len(classes), has_head=has_head),
        call=_by_transformers(model, kind, extractor or {}, rate, has_head),
        head=has_head,
        name=kind,
        modality="waveform",
        left_out=tuple(sorted(set(map(part_of, found["unexpected_keys"])) - {_HIDDEN})),
        facts=facts,
    )


def _seconds(kind: str, config: Any) -> float:
    """How much of a recording the network reads."""
    if kind == SPECTROGRAM:
        return float(WINDOW + HOP * (frames_read(kind, config) - 1)) / RATE
    return float(HOP * frames_read(kind, config)) / RATE if kind == WHISPER else _LONGEST


def _read(kind: str, config: Any, extractor: Mapping[str, Any], at: str) -> tuple[dict[str, Any], int]:
    """The settings of a feature extractor that are part of the network, and the rate in Hz at which it reads."""
    rate = extractor.get("sampling_rate", RATE)
    if kind == WHISPER:
        return _read_by_whisper(config, extractor, at)
    normalizes = extractor.get("do_normalize", True)
    if not isinstance(normalizes, bool) or extractor.get("padding_value", 0) != 0:
        raise InputError(f"{at} pads or normalises recordings in a way that is not read; choose another model.")
    if kind != SPECTROGRAM:
        if not isinstance(rate, int) or not 4000 <= rate <= 48000:
            raise InputError(f"{at} reads recordings at {shortened(str(rate), 40)} Hz, and 4000 to 48000 are read.")
        return {"normalize": normalizes}, rate
    given = (rate, extractor.get("num_mel_bins", config.num_mel_bins), extractor.get("max_length", config.max_length))
    read = (RATE, config.num_mel_bins, config.max_length)
    if given != read:
        raise InputError(
            f"{at}: preprocessor_config.json tells of {' · '.join(shortened(str(each), 40) for each in given)} Hz, mel "
            f"bands and frames, and the model reads {' · '.join(map(str, read))}; take both from one model."
        )
    # Without normalisation: (v - 0) / (2 · 0.5).
    found = {key: extractor[key] for key in ("mean", "std") if key in extractor} if normalizes else {}
    return (found if normalizes else {"mean": 0.0, "std": 0.5}), RATE


def _read_by_whisper(config: Any, extractor: Mapping[str, Any], at: str) -> tuple[dict[str, Any], int]:
    frames = frames_read(WHISPER, config)
    usual = {
        "sampling_rate": RATE, "feature_size": config.num_mel_bins, "n_fft": WINDOW, "hop_length": HOP,
        "chunk_length": frames * HOP / RATE, "padding_value": 0.0, "dither": 0.0, "do_normalize": False,
    }  # fmt: skip
    for key, value in usual.items():
        if extractor.get(key, value) != value:
            raise InputError(
                f"{at}: preprocessor_config.json has {key} {shortened(str(extractor[key]), 40)}, and the model reads "
                f"recordings with {value}; take both from one model."
            )
    return {}, RATE


def _by_transformers(
    model: Any, kind: str, settings: Mapping[str, Any], rate: int, has_head: bool
) -> Callable[[Any], Tensor]:
    """What transformers' own feature extractor and model make of each waveform of a batch alone."""
    import transformers

    known = ("do_normalize", "mean", "std") if kind == SPECTROGRAM else ("do_normalize",)
    options = {key: settings[key] for key in known if key in settings}
    if kind == SPECTROGRAM:
        options |= {"num_mel_bins": model.config.num_mel_bins, "max_length": model.config.max_length}
        extract: Any = transformers.ASTFeatureExtractor(**options)
    elif kind == WHISPER:
        return _by_whisper(model, has_head)
    else:
        extract = transformers.Wav2Vec2FeatureExtractor(sampling_rate=rate, **options)

    def alone(wave: Tensor) -> Tensor:
        values = extract(wave.numpy(), sampling_rate=rate, return_tensors="pt").input_values
        if has_head or kind == SPECTROGRAM:
            logits: Tensor = model(input_values=values).logits
            return logits
        states: Tensor = model.base_model(values).last_hidden_state
        return states.mean(dim=1)

    def call(batch: Batch) -> Tensor:
        wave, mask = batch.tensors["wave"], batch.tensors["mask"]
        return torch.cat([alone(each[kept]) for each, kept in zip(wave, mask, strict=True)])

    return call


def _by_whisper(model: Any, has_head: bool) -> Callable[[Any], Tensor]:
    """As `_by_transformers`; without a head the mean of the states that each recording reaches. The spectrogram is the
    feature extractor's in double precision: its usual one rounds what is quiet beside what is loud."""
    import transformers

    states_read = model.config.max_source_positions
    length, step = states_read * FRAMES_A_STATE * HOP, FRAMES_A_STATE * HOP
    extract = transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)

    def alone(wave: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(wave, (0, length))[:length]
        values = torch.from_numpy(extract._np_extract_fbank_features(padded.numpy()[None], "cpu")).float()
        if has_head:
            logits: Tensor = model(input_features=values).logits
            return logits
        states: Tensor = model.encoder(values).last_hidden_state
        return states[:, : min(states_read, -(-len(wave) // step))].mean(dim=1)

    def call(batch: Batch) -> Tensor:
        wave, mask = batch.tensors["wave"], batch.tensors["mask"]
        return torch.cat([alone(each[kept]) for each, kept in zip(wave, mask, strict=True)])

    return call
