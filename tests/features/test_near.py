import numpy as np

from features import near, nearest_rows, vote_of_near


def test_neighbours_are_those_of_a_plain_search(monkeypatch):
    rng = np.random.default_rng(0)
    queries, vectors = rng.normal(size=(17, 6)), rng.normal(size=(50, 6)) * 3
    cosine = queries @ vectors.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
    for n in (1, 170, 10**6):  # similarities at a time
        monkeypatch.setattr(near, "_AT_A_TIME", n)
        found, similarity = nearest_rows(queries, vectors, 7)
        assert np.array_equal(found, np.argsort(-cosine, axis=1)[:, :7])
        assert np.allclose(similarity, -np.sort(-cosine, axis=1)[:, :7], atol=1e-6)


def test_those_of_a_group_are_kept_apart_even_where_nobody_else_is_left():
    rng = np.random.default_rng(1)
    vectors, groups = rng.normal(size=(30, 4)), np.array([0] * 26 + [1] * 3 + [2])
    found, similarity = nearest_rows(vectors, vectors, 6, apart=(groups, groups))
    there = found >= 0
    assert (groups[found] != groups[:, None])[there].all()
    assert there.sum(axis=1).tolist() == [4] * 26 + [6] * 4
    assert np.isneginf(similarity[~there]).all()
    assert (np.diff(similarity[:26, :4], axis=1) <= 0).all()


def test_a_vote_weighs_more_the_nearer_it_is():
    close, labels = np.array([[0.9, 0.9 - 0.07, -np.inf]], np.float32), np.array([1, 0, 0])
    told = vote_of_near(np.array([[0, 1, -1]]), close, labels, 3)
    assert np.allclose(told, [[1 / (1 + np.e), np.e / (1 + np.e), 0]], atol=1e-5)
