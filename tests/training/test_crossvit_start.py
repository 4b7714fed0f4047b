"""Random weights fitted to pictures: whitened patches, positions that tell cells apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from hloc_ext.models.crossvit import CrossViTConfig, CrossViTRetrieval, CrossViTTeacher
from hloc_ext.training.crossvit_start import PATCH_SCALE, sine_positions, start_from_images, whiten


def smooth_images(count: int = 64, size: int = 60) -> torch.Tensor:
    noise = torch.randn(count, 3, size // 6, size // 6, generator=torch.Generator().manual_seed(1))
    coarse = F.interpolate(noise, size=(size, size), mode="bicubic")
    return 2 * coarse + 0.3 * torch.randn(coarse.shape, generator=torch.Generator().manual_seed(2)) + 0.5


def test_patches_are_whitened():
    embedding = torch.nn.Conv2d(3, 20, 12, 12)
    images = smooth_images(128)
    whiten(embedding, images)
    channels = embedding(images).flatten(2).transpose(1, 2).flatten(0, 1).double()
    covariance = torch.cov(channels.T)
    assert channels.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(
        covariance, PATCH_SCALE**2 * torch.eye(20, dtype=torch.double), atol=5e-3, rtol=0
    )


def test_positions_differ_and_neighbours_are_alike():
    positions = sine_positions(10, 96)
    similarity = F.normalize(positions, dim=1) @ F.normalize(positions, dim=1).T
    assert (similarity - torch.eye(100)).max() < 0.99
    row = similarity[55].reshape(10, 10)
    assert row[5, 6] > row[5, 9] and row[6, 5] > row[9, 5]


def test_a_student_and_a_teacher_start_from_images():
    images = smooth_images()
    student = CrossViTRetrieval(CrossViTConfig()).eval()
    before = student(images[:8])
    start_from_images(student, images)
    after = student(images[:8])
    assert after.isfinite().all() and not torch.allclose(before, after)
    teacher = CrossViTTeacher()
    start_from_images(teacher, images)  # which has one patch embedding
    torch.testing.assert_close(teacher.backbone.pos_embed_0[:, 1:], student.backbone.pos_embed_0[:, 1:])


def test_a_common_part_of_all_embeddings_is_taken_out():
    network = CrossViTRetrieval(CrossViTConfig())
    with torch.no_grad():
        for head in network.backbone.head:
            head.bias += 5.0
    network.train()
    embeddings = network(smooth_images())
    assert embeddings.mean(0).norm() < 0.3
    network.eval()
    assert network(smooth_images()[:4]).mean(0).norm() > 0.9  # its statistics have seen one batch only
