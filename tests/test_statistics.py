"""Statistics against scipy, closed forms, simulation and stored values of other packages."""
import numpy as np
import pytest
from common import InputError, bf01_jzs, bf01_unit_information, bootstrap_ci, mcnemar, paired_t
from scipy import integrate, stats

A = np.array([1.1, 2.3, 0.4, 5.2, 3.3, 2.2])
B = np.array([0.9, 2.9, 0.1, 4.1, 2.0, 2.1])


def test_paired_t_equals_scipy():
    result, theirs = paired_t(A, B), stats.ttest_rel(A, B)
    assert set(result) == {"t", "df", "p", "dz", "mean", "ci"} and result["df"] == 5
    assert result["t"] == pytest.approx(theirs.statistic, rel=1e-13)
    assert result["p"] == pytest.approx(theirs.pvalue, rel=1e-12)
    assert result["ci"] == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-12)
    assert result["mean"] == pytest.approx((A - B).mean())
    assert result["dz"] == pytest.approx((A - B).mean() / (A - B).std(ddof=1))


def test_paired_t_drops_pairs_with_a_nan():
    assert paired_t([*A, np.nan, 3], [*B, 1, np.nan]) == paired_t(A, B)


def test_paired_t_without_variance_is_defined():
    assert paired_t(A, A) == dict(t=0.0, df=5, p=1.0, dz=0.0, mean=0.0, ci=(0.0, 0.0))
    shifted = paired_t([3, 3, 3], [4, 4, 4])
    assert shifted["t"] == shifted["dz"] == -np.inf and shifted["p"] == 0 and shifted["ci"] == (-1, -1)


def test_paired_t_of_fewer_than_two_pairs_is_nan():
    for a in ([], [1.0], [1.0, np.nan]):
        result = paired_t(a, a)
        assert np.isnan([result["t"], result["p"], *result["ci"]]).all() and result["df"] == len(a[:1]) - 1


# Bayes factors

def test_unit_information_bf01_is_its_formula():
    assert bf01_unit_information(0, 50_000) == pytest.approx(223.6067977, abs=1e-6)    # sqrt(n) at t = 0
    assert bf01_unit_information(2.5, 40) == pytest.approx(40**0.5 * (1 + 2.5**2 / 39) ** -20, rel=1e-12)
    assert bf01_unit_information(-2.5, 40, log=True) == pytest.approx(np.log(bf01_unit_information(2.5, 40)))


@pytest.mark.parametrize("t, n, r, expected", [
    (2.2, 30, 1, 0.8005079057923251), (2.2, 30, 0.707, 0.6412085368898037),
    (-1.3, 2619, 1, 27.57861874226517), (4.4, 500, 0.707, 0.001577002464235736),
    (0, 50_000, 2**-0.5, 198.17429090094808),
    (0, 75_000, 2**-0.5, 242.70971081077658), (0, 50_000, 1, 280.2551655870174)])
def test_jzs_bf01_equals_pingouin(t, n, r, expected):
    # 1 / pingouin 0.7.0 bayesfactor_ttest(t, n, paired=True, r=r)
    assert bf01_jzs(t, n, r) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("t, n, r, expected", [
    (40, 75_000, 0.707, -786.0630601599112), (1000, 100, 1, -449.29582067386224),
    (1e4, 5, 1, -25.03189490914397), (0, 2, 1e-3, 0.0011280158896213547),
    (3, 10, 1e-3, -0.013826572869141613), (5.5, 100, 0.2, -10.351861860389683)])
def test_jzs_log_bf01_is_accurate_where_the_integrand_underflows(t, n, r, expected):
    # the integral at 30 digits (mpmath 1.3 quad over log g)
    assert bf01_jzs(t, n, r, log=True) == pytest.approx(expected, abs=1e-10)
    assert np.isfinite(bf01_jzs(t, n, r)) and bf01_jzs(t, n, r) == pytest.approx(np.exp(expected))


def test_jzs_bf01_equals_the_integral_over_a_cauchy_effect_size():
    # another form of the same model: noncentral t averaged over delta ~ Cauchy(0, r)
    t, n, r = 1.7, 24, 0.707
    def weighted(d):
        return stats.nct.pdf(t, n - 1, d * n**0.5) * stats.cauchy.pdf(d, scale=r)
    marginal = integrate.quad(weighted, -4, 4, points=[0, t / n**0.5], limit=200)[0]
    assert bf01_jzs(t, n, r) == pytest.approx(stats.t.pdf(t, n - 1) / marginal, rel=1e-6)


@pytest.mark.parametrize("bf01", [bf01_unit_information, bf01_jzs])
def test_bf01_is_even_in_t_falls_with_it_and_treats_the_ends(bf01):
    logs = [bf01(t, 5000, log=True) for t in (0, 1, 3, 10, 40)]
    assert logs == sorted(logs, reverse=True) and np.isfinite(logs).all()
    assert bf01(-3, 50) == bf01(3, 50)
    assert np.isnan(bf01(np.nan, 50)) and bf01(np.inf, 50) == 0 and bf01(np.inf, 50, log=True) == -np.inf
    assert np.isnan(bf01(1, 1)) and np.isnan(bf01(np.nan, 0))


def test_the_default_prior_is_the_one_of_rouder_2009():
    assert bf01_jzs(1.2, 80) == bf01_jzs(1.2, 80, r=1.0)


# accuracies

def test_mcnemar_counts_discordant_images_and_equals_statsmodels():
    a = np.repeat([1, 1, 0, 0], [50, 12, 5, 33])
    b = np.repeat([1, 0, 1, 0], [50, 12, 5, 33])
    result = mcnemar(a, b)
    assert (result["b"], result["c"]) == (12, 5)
    assert result["p"] == pytest.approx(0.143463134765625, rel=1e-12)    # statsmodels 0.15.0, exact
    assert result["diff"] == pytest.approx(a.mean() - b.mean())
    centre, half = 7 / 102, 1.959963984540054 * np.sqrt((19 / 102 - (7 / 102) ** 2) / 102)    # by hand
    assert result["ci"] == pytest.approx((centre - half, centre + half), rel=1e-12)
    other = mcnemar(b.astype(bool), a.astype(bool))
    assert other["diff"] == -result["diff"]
    assert other["ci"] == pytest.approx(tuple(-x for x in result["ci"][::-1]))


def test_mcnemar_of_equal_classifiers_has_p_1_and_an_interval_of_some_width():
    result = mcnemar([1, 0, 1, 1], [1, 0, 1, 1])
    assert result["p"] == 1 and result["diff"] == 0 and -1 <= result["ci"][0] < 0 < result["ci"][1] <= 1


def test_mcnemar_interval_covers_the_true_difference():
    table, rng = [0.6, 0.15, 0.08, 0.17], np.random.default_rng(0)    # both, a alone, b alone, neither
    hits = 0
    for counts in rng.multinomial(60, table, size=400):
        low, high = mcnemar(np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts))["ci"]
        hits += low <= 0.07 <= high
    assert 0.92 <= hits / 400 <= 0.99


# bootstrap

def test_bootstrap_interval_of_a_mean_is_close_to_the_normal_one():
    x = np.random.default_rng(1).normal(3, 2, 400)
    low, high = bootstrap_ci(x, n_boot=4000)
    half = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.02)
    narrow = bootstrap_ci(x, n_boot=4000, level=0.5)
    assert low < narrow[0] < x.mean() < narrow[1] < high


def test_bootstrap_repeats_itself_takes_other_statistics_and_drops_nans():
    x = np.random.default_rng(2).exponential(size=60)
    assert bootstrap_ci(x, n_boot=500) == bootstrap_ci(np.append(x, np.nan), n_boot=500)
    assert bootstrap_ci(x, n_boot=500, seed=1) != bootstrap_ci(x, n_boot=500)
    low, high = bootstrap_ci(x, np.median, n_boot=500)
    assert low < np.median(x) < high < bootstrap_ci(x, np.max, n_boot=500)[1]
    assert bootstrap_ci([2.0, 2.0], n_boot=50) == (2.0, 2.0)
    for few in ([], [np.nan], [3.0], [3.0, np.nan]):
        assert np.isnan(bootstrap_ci(few)).all()


@pytest.mark.parametrize("stat", [np.mean, np.median])
def test_bootstrap_interval_is_that_of_resampling_written_out(stat):
    x, rng = np.random.default_rng(3).gamma(2, size=30_000), np.random.default_rng(7)
    values = [stat(x[rng.integers(len(x), size=(n, len(x)))], axis=1) for n in (66, 66, 18)]
    expected = np.quantile(np.concatenate(values), [0.025, 0.975])
    assert bootstrap_ci(x, stat, n_boot=150, seed=7) == pytest.approx(tuple(expected), rel=1e-15)


def test_bootstrap_of_many_values_is_drawn_in_chunks():
    sizes = []
    x = np.arange(30_000.0)
    bootstrap_ci(x, lambda samples, axis: sizes.append(samples.shape) or samples.mean(axis), n_boot=150)
    assert len(sizes) > 1 and sum(n for n, _ in sizes) == 150 and max(n * m for n, m in sizes) <= 2_000_000


def test_samples_of_unequal_length_are_refused_also_a_single_value():
    for a, b in (([1., 2.], [1., 2., 3.]), ([1.], [1., 2., 3.])):
        with pytest.raises(ValueError):
            paired_t(a, b)
        with pytest.raises(ValueError):
            mcnemar([1] * len(a), [0] * len(b))


@pytest.mark.parametrize("value", [.5, 2, float("nan")])
def test_mcnemar_takes_answers_alone(value):
    with pytest.raises(InputError, match="0 .wrong. and 1 .right."):
        mcnemar([1, 0, value], [1, 1, 0])
