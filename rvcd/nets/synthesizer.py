"""The RVC synthesizer: units and pitch -> prior (enc_p) -> latents (flow) -> samples (NSF-HiFiGAN decoder, or RefineGAN).

One network, one file. Module names follow the keys of a voice checkpoint, with weight norm already folded.
Shapes: B batch, T frames (10 ms), C channels, L samples. Offline only: `rvcd.engine.decoder` runs the same
weights as a stream.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.errors import ModelFileError
from rvcd.formats.voice_config import (
    FLOW_COUPLINGS,
    FLOW_KERNEL,
    FLOW_LAYERS,
    SynthesizerConfig,
    Vocoder,
    source_kernel,
    upsample_padding,
)
from rvcd.nets.attention_memory import AttentionMemory
from rvcd.nets.excitation import SourceState, source_of
from rvcd.nets.flow_steps import CouplingWeights, FlowSteps
from rvcd.nets.packed import PackedPointwise, own_of, pack
from rvcd.nets.prior_steps import PriorLayer, PriorStream
from rvcd.nets.refinegan import ActivationNoise, RefineGan
from rvcd.nets.rolling_buffer import Past
from rvcd.nets.source_filter import SourceFilter, UnitsAsLatents, sizes_of
from rvcd.nets.tiled_conv import TiledConv, available
from rvcd.yielding import yield_point

PRIOR_NOISE_SCALE = 0.66666
"""Standard deviation of the prior noise, relative to the prior's own (RVC)."""
LRELU_SLOPE = 0.1


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, T)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.transpose(1, 2), (x.shape[1],), self.gamma, self.beta, 1e-5).transpose(1, 2)


class RelativeAttention(nn.Module):
    """Self-attention whose scores and values add learned embeddings of clipped distances (Shaw et al. 2018)."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.conv_q = nn.Conv1d(channels, channels, 1)
        self.conv_k = nn.Conv1d(channels, channels, 1)
        self.conv_v = nn.Conv1d(channels, channels, 1)
        self.conv_o = nn.Conv1d(channels, channels, 1)
        self.emb_rel_k = nn.Parameter(torch.zeros(1, 2 * window + 1, channels // heads))
        self.emb_rel_v = nn.Parameter(torch.zeros(1, 2 * window + 1, channels // heads))
        yield_point()

    def for_steps(self) -> TiledConv:
        """Return queries, keys and values as one product of the C kernels. Call it before the weights are packed."""
        convs = (self.conv_q, self.conv_k, self.conv_v)
        weights, biases = [conv.weight for conv in convs], [conv.bias for conv in convs if conv.bias is not None]
        yield_point()
        return TiledConv(torch.cat(weights), torch.cat(biases), narrow=True)

    def forward(self, x: Tensor, memory: LayerMemory | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T). With a memory, its frames lie before x and are seen too."""
        B, C, T = x.shape
        width = C // self.heads
        q, k, v = (m(x).view(B, self.heads, width, T).transpose(2, 3).float() for m in (self.conv_q, self.conv_k, self.conv_v))
        q = q / math.sqrt(width)
        if memory is not None:
            k, v = memory.attention.extend(k, v, memory.final)
        K = k.shape[2]
        band = _band(T, K, self.window, x.device)
        if memory is not None:
            memory.band = band
        by_distance = q @ self.emb_rel_k[0].T
        scores = q @ k.transpose(2, 3)
        scores += by_distance.gather(3, band.distance.expand(B, self.heads, T, K)) * band.near
        weights = scores.softmax(dim=-1)
        out = weights @ v
        # Gather each row's weights by distance: column d holds the weight of the key at i + d - window.
        banded = weights.gather(3, band.key.expand(B, self.heads, T, -1)) * band.inside
        out += banded @ self.emb_rel_v[0]
        return self.conv_o(out.transpose(2, 3).reshape(B, C, T))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Band:
    """Which of K keys are near the last T of them, the queries.

    distance (T, K): key's position - query's, clipped to the window and counted from 0; near (T, K) 0 or 1.
    key (T, 2 * window + 1): the key at each distance, clipped to what exists; inside: 0 or 1.
    """

    distance: Tensor
    near: Tensor
    key: Tensor
    inside: Tensor


def _band(T: int, K: int, window: int, device: torch.device) -> Band:
    """Return the band of two lengths: the same for every layer and, in a stream, for every block."""
    # The lengths of a network that is being exported are symbols, which cannot be looked up.
    return (_known_band if isinstance(T, int) else _make_band)(T, K, window, device)


def _make_band(T: int, K: int, window: int, device: torch.device) -> Band:
    steps = torch.arange(K, device=device)
    queries = steps[K - T :]
    distance = steps[None, :] - queries[:, None]
    key = queries[:, None] + torch.arange(-window, window + 1, device=device)[None, :]
    return Band(
        distance.clamp(-window, window) + window,
        (distance.abs() <= window).float(),
        key.clamp(0, K - 1),
        ((key >= 0) & (key < K)).float(),
    )


_known_band = lru_cache(maxsize=8)(_make_band)


class FeedForward(nn.Module):
    """Two same-padded convolutions with a ReLU between."""

    def __init__(self, channels: int, filter_channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.conv_1 = nn.Conv1d(channels, filter_channels, kernel)
        self.conv_2 = nn.Conv1d(filter_channels, channels, kernel)

    def forward(self, x: Tensor, memory: LayerMemory | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T). With a memory, the frames before x are its own instead of zeros."""
        left, right = (self.kernel - 1) // 2, self.kernel // 2
        before = F.pad(x, (left, 0)) if memory is None else memory.before.extend(x, memory.final)
        y = torch.relu(self.conv_1(F.pad(before, (0, right))))
        between = F.pad(y, (left, 0)) if memory is None else memory.between.extend(y, memory.final)
        return self.conv_2(F.pad(between, (0, right)))  # type: ignore[no-any-return]


@dataclass
class LayerMemory:
    """What a stream carries through one layer: the final frames as later ones see them.

    before, between (B, C, a few): the inputs of the two convolutions. final: how many of the frames now passing through become
    final. band: of the attention's newest step; a recorded CUDA graph reads it where it is.
    """

    attention: AttentionMemory
    before: Past
    between: Past
    final: int = 0
    band: Band | None = None

    def reset(self) -> None:
        """Forget the stream."""
        self.attention.reset()
        self.before.reset()
        self.between.reset()

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; None before the first step."""
        return [*self.attention.tensors(), self.before.tensor, self.between.tensor]


PriorMemory = list[LayerMemory] | list[PriorStream]
"""What a stream carries through enc_p: of each layer, or of all where the C kernels compute."""


class Encoder(nn.Module):
    """Post-norm transformer over (B, C, T)."""

    def __init__(self, config: SynthesizerConfig, window: int) -> None:
        super().__init__()
        hidden, layers = config.hidden_channels, range(config.n_layers)
        self.attn_layers = nn.ModuleList(RelativeAttention(hidden, config.n_heads, window) for _ in layers)
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(hidden) for _ in layers)
        self.ffn_layers = nn.ModuleList(FeedForward(hidden, config.filter_channels, config.kernel_size) for _ in layers)
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(hidden) for _ in layers)

    def for_steps(self, number: int, qkv: TiledConv) -> PriorLayer:
        """Return a layer as the C kernels compute it, once its convolutions are packed."""
        attention: RelativeAttention = self.attn_layers[number]  # type: ignore[assignment]
        ffn: FeedForward = self.ffn_layers[number]  # type: ignore[assignment]
        out, near = own_of(attention.conv_o), (attention.emb_rel_k[0].detach(), attention.emb_rel_v[0].detach())
        norms: list[ChannelNorm] = [self.norm_layers_1[number], self.norm_layers_2[number]]  # type: ignore[list-item]
        norm_1, norm_2 = ((norm.gamma.detach(), norm.beta.detach()) for norm in norms)
        return PriorLayer(attention.heads, qkv, near, out, norm_1, own_of(ffn.conv_1), own_of(ffn.conv_2), norm_2)

    def forward(self, x: Tensor, memory: list[LayerMemory] | None = None) -> Tensor:
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for i, (attention, norm_1, ffn, norm_2) in enumerate(layers):
            own = None if memory is None else memory[i]
            x = norm_1(x + attention(x, own))
            yield_point()
            x = norm_2(x + ffn(x, own))
            yield_point()
        return x


class Table(nn.Embedding):
    """An embedding that draws no numbers on the meta device: only to do so, torch would import its compiler, for 1.5 s."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class PriorEncoder(nn.Module):
    """enc_p: units and coarse pitch -> mean and log standard deviation of the latents' prior."""

    def __init__(self, config: SynthesizerConfig, window: int) -> None:
        super().__init__()
        self.hidden, self.kernel = config.hidden_channels, config.kernel_size
        self.emb_phone = nn.Linear(config.unit_width, self.hidden)
        self.emb_pitch = Table(256, self.hidden) if config.has_f0 else None
        self.encoder = Encoder(config, window)
        self.layers: list[PriorLayer] = []
        self.proj = nn.Conv1d(self.hidden, 2 * config.inter_channels, 1)

    def pack(self, dtype: torch.dtype) -> None:
        """Compute in dtype from now on; the plain weights are freed."""
        attentions: list[RelativeAttention] = list(self.encoder.attn_layers)  # type: ignore[arg-type]
        if dtype == torch.float32 and attentions and available(self.proj.weight):
            qkvs = [attention.for_steps() for attention in attentions]
            pack(self, dtype)
            self.layers = [self.encoder.for_steps(i, qkv) for i, qkv in enumerate(qkvs)]
        else:
            pack(self, dtype)

    def start(self, context_frames: int) -> PriorMemory:
        """Return what a stream of step() calls carries."""
        if self.layers:
            return [PriorStream(self.layers, context_frames)]
        left = (self.kernel - 1) // 2
        return [
            LayerMemory(AttentionMemory(context_frames), Past(left, 2, zeros=True), Past(left, 2, zeros=True))
            for _ in self.encoder.attn_layers
        ]

    def step(self, units: Tensor, coarse: Tensor | None, memory: PriorMemory, final: int) -> tuple[Tensor, Tensor]:
        """The same for the frames behind the memory's; the first `final` of them become final and are remembered."""
        for layer in memory:
            layer.final = final
        return self(units, coarse, memory)  # type: ignore[no-any-return]

    def forward(self, units: Tensor, coarse: Tensor | None, memory: PriorMemory | None = None) -> tuple[Tensor, Tensor]:
        """units (B, T, unit_width), coarse (B, T) int64 1..255 -> mean and log std, each (B, inter, T)."""
        x = self.emb_phone(units)
        if self.emb_pitch is not None and coarse is not None:
            x = x + self.emb_pitch(coarse)
        x = F.leaky_relu(x * math.sqrt(self.hidden), LRELU_SLOPE)
        first = memory[0] if memory else None
        if isinstance(first, PriorStream):
            encoded = first.step(x[0])[None].transpose(1, 2)
        else:
            encoded = self.encoder(x.transpose(1, 2), memory)
        mean, log_std = self.proj(encoded).float().chunk(2, dim=1)
        return mean, log_std


class WaveNet(nn.Module):
    """Gated convolutions with residual and skip paths, conditioned on the speaker."""

    def __init__(self, hidden: int, kernel: int, layers: int, gin: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.cond_layer = nn.Conv1d(gin, 2 * hidden * layers, 1)
        self.in_layers = nn.ModuleList(nn.Conv1d(hidden, 2 * hidden, kernel, padding=kernel // 2) for _ in range(layers))
        self.res_skip_layers = nn.ModuleList(
            nn.Conv1d(hidden, 2 * hidden if i < layers - 1 else hidden, 1) for i in range(layers)
        )

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        skip = torch.zeros_like(x)
        conditions = self.cond_layer(speaker).chunk(len(self.in_layers), dim=1)
        for i, (conv, res_skip, condition) in enumerate(zip(self.in_layers, self.res_skip_layers, conditions, strict=True)):
            filtered, gate = (conv(x) + condition).chunk(2, dim=1)
            y = res_skip(torch.tanh(filtered) * torch.sigmoid(gate))
            if i < len(self.in_layers) - 1:
                x = x + y[:, : self.hidden]
                y = y[:, self.hidden :]
            skip = skip + y
            yield_point()
        return skip


class Coupling(nn.Module):
    """Mean-only affine coupling, inverse direction: the second half minus what the first half predicts."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        self.split = config.inter_channels // 2
        self.pre = nn.Conv1d(self.split, config.hidden_channels, 1)
        self.enc = WaveNet(config.hidden_channels, FLOW_KERNEL, FLOW_LAYERS, config.gin_channels)
        self.post = nn.Conv1d(config.hidden_channels, self.split, 1)
        yield_point()

    def for_steps(self, *, turned: bool) -> CouplingWeights:
        """Return the coupling as the C kernels compute it, for channels that lie the other way round when turned."""
        convs: list[nn.Conv1d] = list(self.enc.in_layers)  # type: ignore[arg-type]
        res_skips: list[nn.Conv1d] = list(self.enc.res_skip_layers)  # type: ignore[arg-type]
        condition = PackedPointwise(self.enc.cond_layer, torch.float32)
        return CouplingWeights.of(self.pre, convs, res_skips, self.post, condition, turned=turned)

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        kept, changed = x[:, : self.split], x[:, self.split :]
        return torch.cat((kept, changed - self.post(self.enc(self.pre(kept), speaker))), dim=1)


class Flow(nn.Module):
    """The prior-to-latent direction of the coupling flow. `flows` keeps checkpoint keys: even ones are couplings."""

    reach_frames = FLOW_COUPLINGS * FLOW_LAYERS * (FLOW_KERNEL // 2)
    """Frames on each side that can influence one frame: exact beyond this (24)."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        self.flows = nn.ModuleDict({str(2 * i): Coupling(config) for i in range(FLOW_COUPLINGS)})
        self.steps: FlowSteps | None = None
        self._halves = config.inter_channels % 2 == 0

    def pack(self, dtype: torch.dtype) -> None:
        """Compute in dtype from now on; the plain weights are freed."""
        couplings: list[Coupling] = list(self.flows.values())  # type: ignore[arg-type]
        if dtype == torch.float32 and self._halves and available(couplings[0].pre.weight):
            couplings = couplings[::-1]
            self.steps = FlowSteps([coupling.for_steps(turned=i % 2 == 0) for i, coupling in enumerate(couplings)])
            self.flows = nn.ModuleDict()
        else:
            pack(self, dtype)

    def forward(self, z_p: Tensor, speaker: Tensor) -> Tensor:
        """z_p (B, inter, T), speaker (B, gin, 1) -> z (B, inter, T)."""
        if self.steps is not None:
            parts = zip(torch.split(z_p, 1), torch.split(speaker.expand(len(z_p), -1, -1), 1), strict=True)
            return torch.cat([self.steps(z, of) for z, of in parts])
        x = z_p
        for coupling in reversed(list(self.flows.values())):
            x = coupling(x.flip(1), speaker)
        return x


class IdleFlow(nn.Module):
    """Stands in for a flow whose couplings add nothing, as the built-in voice's: the format wants one, the ear does not."""

    reach_frames = 0

    def pack(self, dtype: torch.dtype) -> None:
        """There is nothing to pack."""

    def forward(self, z_p: Tensor, speaker: Tensor) -> Tensor:
        return z_p


class ResBlock(nn.Module):
    """Three pairs of convolutions (dilated, then plain), each with a residual connection."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2) for d in dilations
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations)
        yield_point()

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, LRELU_SLOPE)), LRELU_SLOPE))
        return x


class Generator(nn.Module):
    """NSF-HiFiGAN (plain HiFi-GAN for a voice without f0, or Applio's MRF HiFi-GAN): latents and excitation -> samples."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        self.upsample_rates = tuple(config.upsample_rates)
        self.hop = math.prod(self.upsample_rates)
        channels = config.upsample_initial_channel
        self.conv_pre = nn.Conv1d(config.inter_channels, channels, 7, padding=3)
        self.cond = nn.Conv1d(config.gin_channels, channels, 1)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        self.noise_convs = nn.ModuleList()
        self.m_source = source_of(config)
        self.blocks_per_stage = len(config.resblock_kernel_sizes)
        for i, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)):
            pad, odd = upsample_padding(rate, kernel), (kernel - rate) % 2
            self.ups.append(nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=pad, output_padding=odd))
            channels //= 2
            for block_kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
                self.resblocks.append(ResBlock(channels, block_kernel, tuple(dilations)))
            if config.has_f0:
                stride = math.prod(self.upsample_rates[i + 1 :])
                kernel = source_kernel(stride)
                self.noise_convs.append(nn.Conv1d(1, channels, kernel, stride, padding=(kernel - stride) // 2))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=config.vocoder is Vocoder.MRF)

    def forward(self, z: Tensor, source: Tensor | None, speaker: Tensor) -> Tensor:
        """z (B, inter, T), source (B, 1, T * hop) after the merge, speaker (B, gin, 1) -> samples (B, 1, T * hop)."""
        x = self.conv_pre(z) + self.cond(speaker)
        for i, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, LRELU_SLOPE))
            if source is not None:
                x = x + self.noise_convs[i](source)
            blocks = self.resblocks[i * self.blocks_per_stage : (i + 1) * self.blocks_per_stage]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        # The last activation has PyTorch's default slope, not LRELU_SLOPE: upstream trained it so.
        return torch.tanh(self.conv_post(F.leaky_relu(x)))


class Synthesizer(nn.Module):
    """enc_p, flow, decoder and the speakers' embeddings of one voice."""

    def __init__(self, config: SynthesizerConfig, attention_window: int = 10) -> None:
        super().__init__()
        self.config = config
        self.enc_p: PriorEncoder | UnitsAsLatents
        self.flow: Flow | IdleFlow
        self.dec: Generator | RefineGan | SourceFilter
        if config.vocoder is Vocoder.SOURCE_FILTER:
            self.enc_p, self.flow, self.dec = UnitsAsLatents(), IdleFlow(), SourceFilter(sizes_of(config))
        else:
            self.enc_p = PriorEncoder(config, attention_window)
            self.dec = RefineGan(config) if config.vocoder.is_refinegan else Generator(config)
            self.flow = Flow(config)
        self.emb_g = Table(config.n_speakers, config.gin_channels)

    def speaker(self, speaker_id: int) -> Tensor:
        """Return the embedding (1, gin, 1) of a speaker. Raises IndexError outside 0..n_speakers-1."""
        if not 0 <= speaker_id < self.config.n_speakers:
            raise IndexError(f"speaker {speaker_id} is outside 0..{self.config.n_speakers - 1}")
        return self.emb_g.weight[speaker_id][None, :, None]

    @torch.inference_mode()
    def infer(
        self,
        units: Tensor,
        coarse: Tensor | None,
        f0_hz: Tensor | None,
        speaker_id: int = 0,
        *,
        skip_head: int = 0,
        return_length: int | None = None,
        return_length2: int | None = None,
        prior_noise: Tensor | None = None,
        source_noise: Tensor | None = None,
        start_cycles: Tensor | None = None,
        activation_noise: ActivationNoise | None = None,
    ) -> Tensor:
        """Return samples (1, return_length2 * hop) of frames skip_head .. skip_head + return_length.

        units (1, T, unit_width), coarse (1, T) int64, f0_hz (1, T) with 0 where unvoiced (this network's own convention).
        enc_p sees every frame; the flow starts up to its reach (24 frames) before skip_head. return_length2 != return_length
        resizes latents and excitation linearly (formant shift): the caller resamples the result back.
        prior_noise (1, inter, T) and source_noise (T * hop, harmonics) standard normal; None for none. start_cycles
        (harmonics,): see SourceState. activation_noise: of a RefineGAN, which has noise inside.
        """
        T = units.shape[1]
        length = T - skip_head if return_length is None else return_length
        resized = length if return_length2 is None else return_length2
        speaker = self.speaker(speaker_id)
        mean, log_std = self.enc_p(units, coarse)
        first = max(skip_head - self.flow.reach_frames, 0)
        z_p = mean if prior_noise is None else mean + torch.exp(log_std) * prior_noise * PRIOR_NOISE_SCALE
        z = self.flow(z_p[:, :, first:], speaker)[:, :, skip_head - first : skip_head - first + length]
        if isinstance(self.dec, SourceFilter):
            if f0_hz is None or source_noise is None or resized != length:
                raise ValueError("this voice needs f0_hz and noise, and is not resized")
            pitch = f0_hz[:, skip_head : skip_head + length]
            return self.dec(z.transpose(1, 2), pitch, pitch > 0, source_noise.reshape(1, -1))  # type: ignore[no-any-return]
        source = None
        if self.dec.m_source is not None:
            if f0_hz is None:
                raise ValueError("this voice needs f0_hz")
            f0 = f0_hz[0, skip_head : skip_head + length]
            source = self.dec.m_source.of(f0, f0 > 0, source_noise, SourceState(start_cycles=start_cycles))[None, None]
            if resized != length:
                source = F.interpolate(source, size=resized * self.dec.hop, mode="linear")
        if resized != length:
            z = F.interpolate(z, size=resized, mode="linear")
        if isinstance(self.dec, RefineGan):
            return self.dec(z, source, speaker, activation_noise)[:, 0]  # type: ignore[no-any-return]
        return self.dec(z, source, speaker)[:, 0]  # type: ignore[no-any-return]


def fold_weight_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace every weight_g/weight_v pair by the weight it stands for, in float32: g * v / |v| (Salimans & Kingma 2016).

    The norm runs over every dimension but the first, for transposed convolutions too (PyTorch's default dim=0).
    """
    folded: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key.endswith(".weight_g"):
            continue
        yield_point()
        if key.endswith(".weight_v"):
            stem = key[: -len("_v")]
            direction = value.float()
            norm = direction.norm(dim=tuple(range(1, direction.dim())), keepdim=True).clamp_min(1e-12)
            yield_point()
            folded[stem] = weights[stem + "_g"].float() * direction / norm
        else:
            folded[key] = value.float()
    return folded


def _hifigan_key(config: SynthesizerConfig, key: str) -> str:
    """Return what HiFi-GAN calls a tensor of MRF HiFi-GAN, which is the same network; other voices' keys as they are."""
    if config.vocoder is not Vocoder.MRF:
        return key
    match = re.match(r"dec\.mrfs\.(\d+)\.(\d+)\.layers\.(\d+)\.conv([12])\.(.+)", key)
    if match is None:
        return key.replace("dec.upsamples.", "dec.ups.")
    stage, block, pair, side, rest = match.groups()
    return f"dec.resblocks.{int(stage) * len(config.resblock_kernel_sizes) + int(block)}.convs{side}.{pair}.{rest}"


def _is_idle_flow(folded: Mapping[str, Tensor]) -> bool:
    """Say whether no coupling adds anything; RVC's even number of them turns the channels round an even number of times."""
    stems = [f"flow.flows.{2 * i}.post" for i in range(FLOW_COUPLINGS)]
    return not any(folded[f"{stem}.{part}"].any() for stem in stems for part in ("weight", "bias"))


def build_synthesizer(
    config: SynthesizerConfig, weights: Mapping[str, Tensor], *, path: str = "voice", device: str = "cpu"
) -> Synthesizer:
    """Build the network of a voice and load its weights (encoder-side `enc_q` is ignored).

    Raises ModelFileError when keys or shapes do not match the config.
    """
    ours = {_hifigan_key(config, k): v for k, v in weights.items() if not k.startswith("enc_q.")}
    folded = fold_weight_norm(ours)
    is_source_filter = config.vocoder is Vocoder.SOURCE_FILTER
    has_attention = config.n_layers and not is_source_filter
    window = (folded["enc_p.encoder.attn_layers.0.emb_rel_k"].shape[1] - 1) // 2 if has_attention else 10
    # A source-filter decoder computes its tables when it is built.
    with torch.device("cpu" if is_source_filter else "meta"):
        model = Synthesizer(config, window)
    try:
        model.load_state_dict(folded, strict=True, assign=True)
    except RuntimeError as error:
        first_line = str(error).strip().splitlines()[-1].strip()
        raise ModelFileError(f"{path}: the weights do not fit the voice's config ({first_line})") from None
    yield_point()
    if isinstance(model.flow, Flow) and _is_idle_flow(folded):
        model.flow = IdleFlow()
    return model.to(device).eval().requires_grad_(False)
