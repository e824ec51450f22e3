"""partsynth: data-versioned diffusion augmentation and SupCon training for used industrial parts."""

__version__ = "0.1.0"
