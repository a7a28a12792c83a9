"""Floors of judging: the arithmetic of a response that is as it should be, and nothing else."""

import json
import re

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def bare_boxes(text: str, answer: object) -> float:
    a, b = np.array(json.loads(text))[:, None], np.array(answer)
    sides = np.maximum(np.minimum(a[..., 2:], b[:, 2:]) - np.maximum(a[..., :2], b[:, :2]), 0)
    shared = sides.prod(-1)
    iou = shared / ((a[..., 2:] - a[..., :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - shared)
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum())


def bare_points(text: str, answer: object) -> float:
    near = np.exp(-np.square(np.array(json.loads(text))[:, None] - np.array(answer)).sum(-1) / 50)
    return float(near[linear_sum_assignment(near, maximize=True)].sum())


def bare_ocr(text: str, answer: object) -> float:
    return Levenshtein.normalized_similarity(text, str(answer))


def bare_number(text: str, answer: object) -> float:
    return float(abs(float(NUMBER.findall(text)[-1]) - float(str(answer))) < 1e-6)


def bare_text(text: str, answer: object) -> float:
    return float(text.strip() == str(answer).strip())
