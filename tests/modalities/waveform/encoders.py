"""Tiny networks for sound as transformers saves them, with the settings of their feature extractor."""

from pathlib import Path
from typing import Any

import torch

_OF_WAVEFORMS = {
    "conv_dim": [16, 16, 16],
    "conv_stride": [5, 8, 8],
    "conv_kernel": [10, 8, 8],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "classifier_proj_size": 24,
}
SIZES: dict[str, dict[str, Any]] = {
    "audio-spectrogram-transformer": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_length": 64,
        "num_mel_bins": 32,
    },
    # Its convolutions of the positions are several, of a kernel of their own.
    "data2vec-audio": {
        **{key: value for key, value in _OF_WAVEFORMS.items() if key != "num_conv_pos_embeddings"},
        "num_conv_pos_embeddings": 3,
        "conv_pos_kernel_size": 5,
    },
    "hubert": _OF_WAVEFORMS,
    "wav2vec2": _OF_WAVEFORMS,
    "wavlm": {**_OF_WAVEFORMS, "num_buckets": 16, "max_bucket_distance": 20},
    # It reads one second.
    "whisper": {
        "d_model": 32,
        "encoder_layers": 5,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_layers": 1,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 48,
        "vocab_size": 50,
        "pad_token_id": 1,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "decoder_start_token_id": 4,
        "begin_suppress_tokens": [5],
        "num_mel_bins": 40,
        "max_source_positions": 50,
        "classifier_proj_size": 24,
    },
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
"""The structure of the large ones."""
_CLASSES = {
    "audio-spectrogram-transformer": ("ASTForAudioClassification", "ASTModel"),
    "data2vec-audio": ("Data2VecAudioForSequenceClassification", "Data2VecAudioModel"),
    "hubert": ("HubertForSequenceClassification", "HubertModel"),
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", "Wav2Vec2Model"),
    "wavlm": ("WavLMForSequenceClassification", "WavLMModel"),
    "whisper": ("WhisperForAudioClassification", "WhisperModel"),
}


def extractor(kind: str, rate: int = 16000) -> Any:
    import transformers

    if kind == "audio-spectrogram-transformer":
        return transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-5.0, std=3.0)
    if kind == "whisper":
        return transformers.WhisperFeatureExtractor(feature_size=40, chunk_length=1)
    return transformers.Wav2Vec2FeatureExtractor(sampling_rate=rate)


def write(
    folder: Path, kind: str, *, head: bool = True, of: str | None = None, rate: int = 16000, **settings: Any
) -> Any:
    """Save a randomly initialised model of a type, a classifier or with `of` what that class is; return it."""
    import transformers

    torch.manual_seed(0)
    labels = {"id2label": {0: "no", 1: "stop", 2: "yes"}, "label2id": {"no": 0, "stop": 1, "yes": 2}}
    config = transformers.AutoConfig.for_model(kind, **SIZES[kind], **labels, **settings)
    model = getattr(transformers, of or _CLASSES[kind][not head])(config).eval()
    for name, tensor in model.named_parameters():
        # As drawn, norms have weights of 1 and biases of 0, which would hide one that was taken for another; and all
        # sounds have about the same result.
        if "norm" in name.lower() or "bias" in name:
            torch.nn.init.normal_(tensor, mean=float("weight" in name), std=0.2)
        elif "classifier" in name or "projector" in name:
            torch.nn.init.normal_(tensor, std=0.5)
    model.save_pretrained(folder)
    extractor(kind, rate).save_pretrained(folder)
    return model
