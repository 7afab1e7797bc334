"""A classifier fitted in closed form."""

from __future__ import annotations

import pytest
import torch
from support.toy_pretrained import SPACE, images, toy_weights
from torch.nn import functional

from nasflow.base.errors import UsageError
from stages.nn import probe
from stages.nn.pretrained import full_network
from stages.nn.probe import features, fit_classifier, ridge_classifier


def clusters(count: int, width: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features about four fixed centres, with their labels."""
    centres = torch.randn(4, 30, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    return 5 + 3 * (centres[labels] + width * torch.randn(count, 30, generator=generator)), labels


@pytest.mark.parametrize("count", [20, 200])
def test_classes_that_can_be_told_apart_are(count: int) -> None:
    weight_KC, bias_K = ridge_classifier(*clusters(count, 0.3, 0), classes=4)
    new, labels = clusters(300, 0.3, 1)
    assert float(((new.double() @ weight_KC.T + bias_K).argmax(1) == labels).double().mean()) > 0.97


def test_outputs_are_logits_that_know_what_they_do_not_know() -> None:
    """Cross-entropy on new images is far below that of equal shares, or near it where features are noise."""
    losses = []
    for width in (0.3, 30.0):
        weight_KC, bias_K = ridge_classifier(*clusters(200, width, 0), classes=4)
        new, labels = clusters(500, width, 1)
        losses.append(float(functional.cross_entropy(new.double() @ weight_KC.T + bias_K, labels)))
    equal = float(torch.log(torch.tensor(4.0)))
    assert losses[0] < 0.2 * equal
    assert losses[1] < 1.1 * equal


def test_a_weight_counts_as_so_many_equal_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STRENGTHS", (0.01,))  # whose choice leaves out one image, not its copies
    monkeypatch.setattr(probe, "_FACTORS", (1.0,))
    samples, labels = clusters(60, 3.0, 0)
    often = torch.where(labels == 0, 5, 1)
    weighted = ridge_classifier(samples, labels, 4, often / often.double().mean())
    repeated = ridge_classifier(samples.repeat_interleave(often, 0), labels.repeat_interleave(often), 4)
    for found, expected in zip(weighted, repeated, strict=True):
        torch.testing.assert_close(found, expected)
    plain, alike = ridge_classifier(samples, labels, 4), ridge_classifier(samples, labels, 4, torch.ones(60))
    assert all(torch.equal(a, b) for a, b in zip(plain, alike, strict=True))


def test_a_class_without_an_image_and_a_constant_feature_do_no_harm() -> None:
    samples, labels = clusters(100, 0.3, 0)
    samples[:, 3] = 2.0
    weight_KC, bias_K = ridge_classifier(samples, labels, classes=6)
    assert bool(weight_KC.isfinite().all()) and bool(bias_K.isfinite().all())
    assert set((samples.double() @ weight_KC.T + bias_K).argmax(1).tolist()) <= {0, 1, 2, 3}


def test_a_network_takes_the_fitted_classifier() -> None:
    network = full_network(SPACE, toy_weights()).train()
    batches = images(SPACE)
    found = features(network, batches)
    assert network.training and found.shape == (40, 24)
    labels = (found[:, 0] > found[:, 0].median()).long()
    fit_classifier(network, found, labels)
    with torch.no_grad():
        answers = torch.cat([network.eval()(x_NCHW).argmax(1) for x_NCHW in batches])
    assert float((answers == labels).double().mean()) > 0.8
    with pytest.raises(UsageError, match="1 images"):
        fit_classifier(network, found[:1], labels[:1])
