"""Anchors: Detectron2's published numbers, areas, ratios and order."""

import numpy as np

from keras_resnet.detection.anchors import cell_anchors, grid_anchors


def test_numbers_of_detectron2():
    cell = cell_anchors((32, 64), (0.25, 1, 4))
    # Detectron2 has left, top, right, bottom.
    assert cell[0].tolist() == [-8, -32, 8, 32]
    assert cell[1].tolist() == [-16, -16, 16, 16]
    assert cell[5].tolist() == [-64, -16, 64, 16]
    corner = np.asarray(grid_anchors(1, 2, 4, cell, offset=0.0))
    assert corner[[0, 6]].tolist() == [[-8, -32, 8, 32], [-8, -28, 8, 36]]
    centered = np.asarray(grid_anchors(1, 2, 4, cell))
    assert centered[0].tolist() == [-6, -30, 10, 34]


def test_areas_and_ratios():
    cell = cell_anchors((128, 256, 512), (0.5, 1, 2))
    height, width = cell[:, 2] - cell[:, 0], cell[:, 3] - cell[:, 1]
    np.testing.assert_allclose(np.sqrt(height * width), np.repeat([128, 256, 512], 3), rtol=1e-6)
    np.testing.assert_allclose(height / width, [0.5, 1, 2] * 3, rtol=1e-6)


def test_the_paper_counts_21546_of_them():
    assert len(grid_anchors(38, 63, 16, cell_anchors((128, 256, 512), (0.5, 1, 2)))) == 21_546


def test_cells_run_row_by_row():
    grid = np.asarray(grid_anchors(2, 3, 16, np.zeros((1, 4), "float32")))
    assert grid[:, :2].tolist() == [[8, 8], [8, 24], [8, 40], [24, 8], [24, 24], [24, 40]]
