//! How alike vectors are.

use crate::load::Similarity;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// A row for each of `a`, a column for each of `b`; larger is nearer. Rows lie one after another: the products of narrow
/// matrices come column after column.
pub(super) fn between(measure: Similarity, a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array2<f32> {
    assert_eq!(a.ncols(), b.ncols(), "vectors of different widths are compared");
    let matrix = match measure {
        Similarity::Dot => a.dot(&b.t()),
        Similarity::Cosine => a.dot(&b.t()) / lengths(a).insert_axis(Axis(1)) / lengths(b).insert_axis(Axis(0)),
        Similarity::Euclidean => each(a, b, |difference| difference.powi(2), f64::sqrt),
        Similarity::Manhattan => each(a, b, f64::abs, |sum| sum),
    };
    if matrix.is_standard_layout() { matrix } else { matrix.as_standard_layout().into_owned() }
}

/// The rows' lengths; that of a row of zeros is not quite zero, so that its cosines are.
fn lengths(x: ArrayView2<f32>) -> Array1<f32> {
    let length = |row: ArrayView1<f32>| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12) as f32;
    x.outer_iter().map(length).collect()
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
    fn rows_lie_one_after_another_for_vectors_of_any_width() {
        for (rows, width) in [(1, 1), (2, 1), (3, 1), (2, 2), (2, 5)] {
            let a = Array2::from_shape_fn((rows, width), |(i, j)| (1 + i + 2 * j) as f32);
            for measure in [Similarity::Cosine, Similarity::Dot, Similarity::Euclidean, Similarity::Manhattan] {
                assert!(between(measure, a.view(), a.view()).as_slice().is_some(), "{measure:?} of {rows} x {width}");
            }
        }
    }
}
