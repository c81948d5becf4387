"""Declares the fusion operators; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1

FEATURE = {
    "elementary": {
        "concat": ("Concat", "The features side by side: F = [f1, ..., fn]."),
        "sum": ("Sum", "Projected to one width and added."),
        "average": ("Average", "Projected to one width and averaged over the modalities present."),
        "maximum": ("Maximum", "Projected to one width; the greatest value of each feature."),
        "multiply": ("Multiply", "Projected to one width and multiplied elementwise (Hadamard)."),
        "attention": ("Attention", "Projections weighted by a softmax over the modalities present."),
        "deepset": ("DeepSet", "A network of the sum of transformed features (Zaheer 2017)."),
    },
    "gated": {
        "gmu": ("GMU", "Gated multimodal unit (Arevalo 2017)."),
        "film": ("FiLM", "The other modalities scale and shift the first one's features (Perez 2018); ordered."),
        "highway": ("Highway", "Highway layers over the concatenation (Srivastava 2015)."),
    },
    "bilinear": {
        "bilinear": ("Bilinear", "A full bilinear map of every pair."),
        "mcb": ("MCB", "Compact bilinear pooling: count sketches convolved by FFT (Fukui 2016)."),
        "mlb": ("MLB", "Low-rank bilinear pooling by a Hadamard product (Kim 2017)."),
        "mfb": ("MFB", "Factorised bilinear pooling (Yu 2017)."),
        "mfh": ("MFH", "Cascaded factorised bilinear pooling (Yu 2018)."),
        "mutan": ("Mutan", "Tucker decomposition with a low-rank core (Ben-Younes 2017)."),
        "block": ("Block", "Block-term decomposition of the bilinear map (Ben-Younes 2019)."),
    },
    "tensor": {
        "tensor": ("TensorFusion", "Outer product of the features with ones appended (Zadeh 2017)."),
        "low_rank": ("LowRank", "The tensor product with low-rank factors (Liu 2018)."),
        "multiplicative": ("Multiplicative", "Multiplicative interactions: matrix, vector or scalar (Jayakumar 2020)."),
    },
    "transformer": {
        "transformer": ("Transformer", "Self-attention over all modalities' tokens, read at a CLS token."),
    },
    "late_transformer": {
        "late_transformer": ("LateTransformer", "One small transformer over all modalities' tokens (Rheude 2025)."),
    },
    "cross_attention": {
        "cross_attention": ("CrossAttention", "Every modality attends to every other (MulT, Tsai 2019)."),
    },
    "bottleneck": {
        "bottleneck": ("Bottleneck", "Modalities exchange through a few bottleneck tokens (MBT, Nagrani 2021)."),
    },
    "perceiver": {
        "perceiver": ("Perceiver", "Learned latents read all tokens by cross-attention (Jaegle 2021)."),
    },
    "coattention": {
        "coattention": ("CoAttention", "Parallel co-attention between modalities (Lu 2016)."),
    },
    "hypernetwork": {
        "hypernetwork": ("HyperNetwork", "One modality generates the layer applied to the others; ordered."),
    },
    "canonical": {
        "canonical": ("Canonical", "Concatenation trained with a deep canonical correlation loss (Andrew 2013)."),
    },
    "experts": {
        "product_of_experts": ("ProductOfExperts", "Product of each modality's Gaussian over a latent (Wu 2018)."),
        "mixture_of_experts": ("MixtureOfExperts", "A router weighs the modalities' experts, with a balance loss."),
    },
}
"""File, name, class and summary of each feature-level operator."""

MODEL = {
    "averages": {
        "mean": ("Mean", "Mean of the probabilities."),
        "weighted": ("Weighted", "Learned convex weights of the probabilities."),
        "product": ("Product", "Normalised product: the sum of log-probabilities."),
        "max": ("Max", "The greatest probability of each class, renormalised."),
    },
    "votes": {
        "vote": ("Vote", "Majority of the models' decisions, hard or soft."),
        "borda": ("Borda", "Borda count over the models' rankings."),
    },
    "stacking": {"stacking": ("Stacking", "A small model on the models' log-probabilities, fitted on held-out rows.")},
    "gating": {"gated": ("Gated", "Weights per row, computed from the features.")},
    "evidential": {"evidential": ("Evidential", "Dempster-Shafer on Dirichlet evidence, with an uncertainty a row.")},
    "calibrated": {"calibrated": ("Calibrated", "A temperature per model, then the product.")},
}
"""File, name, class and summary of each model-level operator."""


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """Every fusion operator of both levels."""
    return [
        ComponentSpec("fusion", name, f"mmreg_fusion.{level}_level.{file}:{cls}", summary, level=level)
        for level, families in (("feature", FEATURE), ("model", MODEL))
        for file, operators in families.items()
        for name, (cls, summary) in operators.items()
    ]
