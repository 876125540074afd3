//! How alike vectors are.

use crate::checkpoint::Similarity;
use ndarray::{Array2, ArrayView2, Axis};

/// A row for each of `a`, a column for each of `b`; larger is nearer. Rows lie one after another: the products of narrow
/// matrices come column after column.
pub(super) fn between(measure: Similarity, a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array2<f32> {
    assert_eq!(a.ncols(), b.ncols(), "vectors of different widths are compared");
    let matrix = match measure {
        Similarity::Dot => a.dot(&b.t()),
        Similarity::Cosine => normalised(a).dot(&normalised(b).t()),
        Similarity::Euclidean => each(a, b, |difference| difference.powi(2), f64::sqrt),
        Similarity::Manhattan => each(a, b, f64::abs, |sum| sum),
    };
    if matrix.is_standard_layout() { matrix } else { matrix.as_standard_layout().into_owned() }
}

/// Documents that are compared at once with all queries.
const BLOCK: usize = 4096;

/// For each of `queries` the nearest `k` of `documents`, best first, the earlier one first among equals.
pub(super) fn top_k(
    measure: Similarity,
    queries: ArrayView2<f32>,
    documents: ArrayView2<f32>,
    k: usize,
) -> Vec<Vec<(usize, f32)>> {
    assert_eq!(queries.ncols(), documents.ncols(), "vectors of different widths are compared");
    let mut best: Vec<Vec<(usize, f32)>> = vec![Vec::new(); queries.nrows()];
    for (block, part) in documents.axis_chunks_iter(Axis(0), BLOCK).enumerate() {
        let scores = between(measure, queries, part);
        for (best, scores) in best.iter_mut().zip(scores.outer_iter()) {
            best.extend(scores.iter().enumerate().map(|(i, score)| (block * BLOCK + i, *score)));
            best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            best.truncate(k);
        }
    }
    best
}

/// Rows of length 1; one of zeros stays one.
fn normalised(x: ArrayView2<f32>) -> Array2<f32> {
    let mut x = x.to_owned();
    for mut row in x.outer_iter_mut() {
        let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.mapv_inplace(|x| (f64::from(x) / length) as f32);
        }
    }
    x
}

/// A distance, negative.
fn each(a: ArrayView2<f32>, b: ArrayView2<f32>, term: impl Fn(f64) -> f64, last: impl Fn(f64) -> f64) -> Array2<f32> {
    Array2::from_shape_fn((a.nrows(), b.nrows()), |(i, j)| {
        let terms = a.row(i).into_iter().zip(b.row(j)).map(|(x, y)| term(f64::from(*x) - f64::from(*y)));
        -last(terms.sum()) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn each_measure_is_the_textbooks_and_larger_is_nearer() {
        let a = array![[3.0, 4.0], [0.0, 0.0]];
        let b = array![[6.0, 8.0], [-4.0, 3.0], [3.0, 4.0]];
        for (measure, expected) in [
            (Similarity::Cosine, array![[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
            (Similarity::Dot, array![[50.0, 0.0, 25.0], [0.0, 0.0, 0.0]]),
            (Similarity::Euclidean, array![[-5.0, -50f32.sqrt(), 0.0], [-10.0, -5.0, -5.0]]),
            (Similarity::Manhattan, array![[-7.0, -8.0, 0.0], [-14.0, -7.0, -7.0]]),
        ] {
            let got = between(measure, a.view(), b.view());
            assert!((&got - &expected).iter().all(|x: &f32| x.abs() < 1e-6), "{measure:?}: {got}");
        }
    }

    #[test]
    fn the_best_k_are_those_of_the_whole_matrix_across_blocks() {
        let value = |i: usize, j: usize| (((i * 31 + j * 17) % 101) as f32 - 50.0) / 50.0;
        let documents = Array2::from_shape_fn((BLOCK + 700, 3), |(i, j)| value(i, j));
        let queries = Array2::from_shape_fn((4, 3), |(i, j)| value(7 * i, j + 1));
        for measure in [Similarity::Cosine, Similarity::Dot, Similarity::Euclidean] {
            let whole = between(measure, queries.view(), documents.view());
            let found = top_k(measure, queries.view(), documents.view(), 9);
            for (row, found) in whole.outer_iter().zip(found) {
                let mut all: Vec<_> = row.iter().copied().enumerate().collect();
                all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                assert_eq!(found, all[..9]);
            }
        }
        assert_eq!(top_k(Similarity::Dot, queries.view(), documents.view().split_at(Axis(0), 2).0, 5)[0].len(), 2);
        assert!(top_k(Similarity::Dot, queries.view(), documents.view(), 0)[0].is_empty());
    }

    #[test]
    fn the_cosine_of_very_long_and_very_short_vectors_is_that_of_their_directions() {
        for size in [1e-40, 1e-25, 1e20, 3e38] {
            let (a, b) = (array![[size, size]], array![[size, 0.0], [-size, -size]]);
            let got = between(Similarity::Cosine, a.view(), b.view());
            assert!((got[[0, 0]] - 0.5f32.sqrt()).abs() < 1e-6 && (got[[0, 1]] + 1.0).abs() < 1e-6, "{size}: {got}");
        }
    }

    #[test]
    fn rows_lie_one_after_another_for_vectors_of_any_width() {
        for (rows, width) in [(1, 1), (2, 1), (3, 1), (2, 2), (2, 5)] {
            let a = Array2::from_shape_fn((rows, width), |(i, j)| (1 + i + 2 * j) as f32);
            for measure in [Similarity::Cosine, Similarity::Dot, Similarity::Euclidean, Similarity::Manhattan] {
                assert!(between(measure, a.view(), a.view()).as_slice().is_some(), "{measure:?} of {rows} x {width}");
            }
        }
    }
}
