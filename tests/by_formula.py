"""Statistics from their formulas, with which tests compare every number of a table."""
import math

import numpy as np
import pytest
from scipy import integrate, stats


def interval(values: np.ndarray, draws: int = 10_000) -> tuple:
    """95 % percentile bootstrap of the mean."""
    return tuple(stats.bootstrap((values,), np.mean, n_resamples=draws, method="percentile",
                                 random_state=np.random.default_rng(0)).confidence_interval)


def paired(a: np.ndarray, b: np.ndarray) -> dict:
    """t test of a - b from its formulas."""
    d, n = a - b, len(a)
    sem = d.std(ddof=1) / n**.5
    half = sem * stats.t.ppf(.975, n - 1)
    return dict(t=d.mean() / sem, df=n - 1, p=2 * stats.t.sf(abs(d.mean()) / sem, n - 1), mean=d.mean(),
                dz=d.mean() / d.std(ddof=1), ci=(d.mean() - half, d.mean() + half))


def correlation(x: np.ndarray, y: np.ndarray) -> dict:
    """Pearson's r with its t test and Fisher's interval."""
    r, n = np.corrcoef(x, y)[0, 1], len(x)
    half = stats.norm.ppf(.975) / (n - 3)**.5
    return dict(r=r, n=n, p=2 * stats.t.sf(abs(r) * ((n - 2) / (1 - r**2))**.5, n - 2),
                ci=(np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)))


def mcnemar(a: np.ndarray, b: np.ndarray) -> dict:
    """McNemar's exact test of right answers a and b, with the adjusted Wald interval of Bonett & Price."""
    n, alone, other = len(a), int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    tail = sum(math.comb(alone + other, k) for k in range(min(alone, other) + 1)) / 2**(alone + other)
    d, s = (alone - other) / (n + 2), (alone + other + 2) / (n + 2)
    half = stats.norm.ppf(.975) * math.sqrt((s - d**2) / (n + 2))
    return dict(b=alone, c=other, p=min(1., 2 * tail), diff=(alone - other) / n, ci=(d - half, d + half))


def log_jzs(t: float, n: int, r: float) -> float:
    """log BF01 of Rouder et al. 2009, equation 1, with a Cauchy prior of scale r, by quadrature."""
    def of_g(g: float) -> float:
        wide = 1 + n * g * r**2
        likelihood = wide**-.5 * (1 + t**2 / (wide * (n - 1)))**(-n / 2)
        return likelihood * (2 * math.pi)**-.5 * g**-1.5 * math.exp(-1 / (2 * g))
    against = integrate.quad(of_g, 0, 1, epsabs=0)[0] + integrate.quad(of_g, 1, np.inf, epsabs=0)[0]
    return -n / 2 * math.log(1 + t**2 / (n - 1)) - math.log(against)


def bars(ax) -> np.ndarray:
    """Height, low and high end of the error of every bar of a panel, (bars, 3)."""
    return np.array([(bar.get_height(), *end[:, 1]) for box in ax.containers if hasattr(box, "patches")
                     for bar, end in zip(box.patches, box.errorbar.lines[2][0].get_segments())])


def mean_and_sem(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, and one standard error below and above it."""
    sem = values.std(ddof=1) / len(values)**.5
    return values.mean(), values.mean() - sem, values.mean() + sem


def assert_same(found: dict, expected: dict) -> None:
    """Equal texts and counts, numbers but for rounding."""
    assert found.keys() == expected.keys(), (found, expected)
    for key, value in expected.items():
        if isinstance(value, dict):
            assert_same(found[key], value)
            continue
        exact = value is None or isinstance(value, (str, int))
        assert found[key] == (value if exact else pytest.approx(value, rel=1e-6)), (key, found, expected)
