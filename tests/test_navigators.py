"""The navigators against loops in double precision, and what must hold of any distribution."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from patchct_edge import navigators

TAU = 0.1
similarities = arrays(np.float32, (2, 4, 6), elements=st.floats(-1, 1, width=32))
weights = arrays(np.float32, (2, 4), elements=st.sampled_from([0, 1e-30, 0.1, 1, 7])).filter(
    lambda q: (q.sum(axis=-1) > 0).all()
)


def make_inputs(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (2, 4, 6)).astype(dtype), rng.random((2, 4)), rng.random((2, 6))


def loops(s, q, p):
    """Compute equations (3), (4) and (6) term by term."""
    batch, labels, patches = s.shape
    f, b, score = np.zeros(s.shape), np.zeros(s.shape), np.zeros((batch, labels))
    for i in range(batch):
        for m in range(labels):
            for n in range(patches):
                e = math.exp(s[i, m, n] / TAU)
                f_sum = sum(q[i, k] * math.exp(s[i, k, n] / TAU) for k in range(labels))
                b_sum = sum(p[i, k] * math.exp(s[i, m, k] / TAU) for k in range(patches))
                f[i, m, n] = q[i, m] * e / f_sum
                b[i, m, n] = p[i, n] * e / b_sum
                score[i, m] += b[i, m, n] * s[i, m, n]
    return f, b, score


@pytest.mark.parametrize("seed", range(4))
def test_the_equations_equal_loops(seed):
    s, q, p = make_inputs(seed)
    q[0, 1] = p[1, 3] = 0
    f, b, _ = loops(s, q, p)
    np.testing.assert_allclose(navigators.forward(s, TAU, q), f, rtol=1e-10)
    np.testing.assert_allclose(navigators.backward(s, TAU, p), b, rtol=1e-10)
    _, uniform, score = loops(s, q, np.full(p.shape, 1 / 6))
    np.testing.assert_allclose(navigators.backward(s, TAU), uniform, rtol=1e-10)
    np.testing.assert_allclose(navigators.navigator_score(s, TAU), score, rtol=1e-10)


def test_any_leading_shape_is_allowed():
    s, q, p = make_inputs()
    alone = navigators.forward(s[0], TAU, q[0]), navigators.backward(s[0], TAU, p[0])
    together = navigators.forward(s, TAU, q), navigators.backward(s, TAU, p)
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, many[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tau", [TAU, np.float64(TAU)])
def test_the_dtype_of_the_similarities_is_kept(dtype, tau):
    s, q, p = make_inputs(dtype=dtype)
    assert navigators.forward(s, tau, q).dtype == dtype
    assert navigators.backward(s, tau, p).dtype == dtype
    assert navigators.navigator_score(s, tau).dtype == dtype
    assert navigators.label_weights(q.astype(dtype)).dtype == dtype


@given(similarities, weights, st.floats(1e-3, 10))
def test_navigators_are_distributions(s, q, tau):
    f, b = navigators.forward(s, tau, q), navigators.backward(s, tau)
    assert f.min() >= 0
    assert b.min() >= 0
    np.testing.assert_allclose(f.sum(axis=-2), 1, atol=1e-5)
    np.testing.assert_allclose(b.sum(axis=-1), 1, atol=1e-5)
    assert not f[q == 0].any()


@given(similarities, weights, st.permutations(range(4)))
def test_permuting_labels_permutes_the_outputs(s, q, order):
    f, b = navigators.forward(s, TAU, q), navigators.backward(s, TAU)
    moved = navigators.forward(s[:, order], TAU, q[:, order])
    np.testing.assert_allclose(moved, f[:, order], atol=1e-5)
    np.testing.assert_array_equal(navigators.backward(s[:, order], TAU), b[:, order])


@given(similarities, st.floats(1e-3, 10))
def test_the_score_lies_between_mean_and_maximum(s, tau):
    score = navigators.navigator_score(s, tau)
    assert (score >= s.mean(axis=-1) - 1e-5).all()
    assert (score <= s.max(axis=-1) + 1e-5).all()


def test_extreme_similarities_give_neither_nan_nor_warnings():
    s = np.array([[1e6, -1e6, 0], [-1e6, -1e6, 1e-6]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = [
            navigators.forward(s, 0.03, np.array([1.0, 1e-300])),
            navigators.forward(s, 0.03, np.array([0.0, 1.0])),
            navigators.backward(s, 0.03),
        ]
    for output in outputs:
        assert np.isfinite(output).all()
    assert outputs[1].tolist() == [[0, 0, 0], [1, 1, 1]]  # the winner of patch 0 has no weight


def test_only_the_proportions_of_the_weights_matter():
    s, q, p = make_inputs()
    np.testing.assert_allclose(navigators.forward(s, TAU, 5 * q), navigators.forward(s, TAU, q))
    np.testing.assert_allclose(navigators.backward(s, TAU, 5 * p), navigators.backward(s, TAU, p))


def test_label_weights_are_scores_scaled_to_sum_to_one():
    scores = np.array([[0.2, 0.6, 0.0], [0.1, 0.1, 0.2]])
    expected = [[0.25, 0.75, 0], [0.25, 0.25, 0.5]]
    np.testing.assert_allclose(navigators.label_weights(scores), expected)


@pytest.mark.parametrize("weights", [[0, 0, 0, 0], [1, 1, -1, 1], [1, 1, np.nan, 1]])
def test_weights_that_form_no_distribution_are_refused(weights):
    s, q, _ = make_inputs()
    q[1] = weights
    with pytest.raises(ValueError, match="weights"):
        navigators.forward(s, TAU, q)
    with pytest.raises(ValueError, match="weights"):
        navigators.label_weights(q)


@pytest.mark.parametrize("tau", [0, -0.1, math.nan])
def test_tau_must_be_positive(tau):
    s, q, _ = make_inputs()
    with pytest.raises(ValueError, match="tau"):
        navigators.forward(s, tau, q)
    with pytest.raises(ValueError, match="tau"):
        navigators.navigator_score(s, tau)
