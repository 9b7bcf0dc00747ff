"""The learning rate over a run: warmup, stable, decay."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupStableDecay:
    """Rises linearly, stays, and falls as one minus a square root.

    A run can be cut short or extended where the rate is stable, which a cosine does not
    allow (Hu et al. 2024, https://arxiv.org/abs/2404.06395). The fall is that of
    ModernBERT (Warner et al. 2024, https://arxiv.org/abs/2412.13663), from Hägele et
    al. 2024, https://arxiv.org/abs/2405.18392.

    learn_rate (float): The stable rate.
    warmup_steps (int): Steps of the rise.
    decay_steps (int): Steps of the fall.
    total (int): All steps.

    Invariant: `warmup_steps + decay_steps <= total`.
    """

    learn_rate: float
    warmup_steps: int
    decay_steps: int
    total: int

    def __call__(self, step: int) -> float:
        """step (int): How many steps came before.
        RETURNS (float): The learning rate.
        """
        if step < self.warmup_steps:
            return self.learn_rate * (step + 1) / self.warmup_steps
        fallen = step - (self.total - self.decay_steps)
        if fallen <= 0:
            return self.learn_rate
        return self.learn_rate * max(0.0, 1 - (fallen / self.decay_steps) ** 0.5)
