from __future__ import annotations

import pytest

from nnunet_al.errors import NnunetALError
from nnunet_al.selection.kernel_plan import plan_kernel

PAPERS = (104_133, 6_606, 10_000)  # Föllmer et al. 2024, the liver
KERNEL = 4 * 104_133 * 6_606


def test_the_papers_pool_fits_into_six_gigabytes():
    plan = plan_kernel(*PAPERS, int(6e9))
    assert plan.kept_rows == 104_133
    # beside the kernel: queries, two blocks of embeddings, and less than 0.2 GB of the rest
    assert 0 < plan.bytes_needed - KERNEL - 4 * 6_606 * 10_000 - 2 * 4 * 1024 * 10_000 < 0.2e9
    assert "104133 x 6606" in plan.sentence
    assert "all of its rows" in plan.sentence
    assert "3.29 GB" in plan.sentence


@pytest.mark.parametrize("memory", [0.7e9, 1e9, 2e9, 3e9])
def test_what_does_not_fit_is_not_kept(memory):
    plan = plan_kernel(*PAPERS, int(memory))
    assert 0 <= plan.kept_rows < 104_133
    # as much as there is room for, to the row
    assert plan.bytes_needed <= 0.8 * memory < plan.bytes_needed + 4 * 6_606 + 1
    assert f"{plan.kept_rows} of its rows" in plan.sentence


def test_more_memory_keeps_more():
    kept = [plan_kernel(*PAPERS, int(memory)).kept_rows for memory in (1e9, 1.5e9, 2e9, 8e9, 80e9)]
    assert kept == sorted(kept)
    assert kept[0] < kept[1] < kept[2] < kept[3] == kept[4]


def test_where_not_even_a_block_fits_one_sentence_says_so():
    with pytest.raises(NnunetALError) as caught:
        plan_kernel(*PAPERS, int(0.3e9))
    sentence = str(caught.value)
    assert "300 MB are free" in sentence
    assert "query_size" in sentence
    assert "embedding_size" in sentence
    assert "\n" not in sentence


def test_where_memory_is_unknown_some_gigabytes_are_kept():
    assert plan_kernel(*PAPERS, None).kept_rows == 104_133
    assert plan_kernel(10 * 104_133, 6_606, 10_000, None).kept_rows == (4 << 30) // (4 * 6_606)


@pytest.mark.parametrize("rows, queries", [(0, 0), (0, 5), (5, 0), (1, 1)])
def test_nothing_to_keep(rows, queries):
    assert plan_kernel(rows, queries, 10, None).kept_rows == rows
