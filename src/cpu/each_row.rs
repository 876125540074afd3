//! A parallel loop over the rows of a buffer.

use super::Pool;
use super::input::Parts;

impl Pool {
    /// Runs `body(row, values)` for each row of `width` values of `data`, each exactly once, on all threads.
    pub fn each_row<T: Send>(&self, data: &mut [T], width: usize, body: &(dyn Fn(usize, &mut [T]) + Sync)) {
        let rows = data.len() / width.max(1);
        let parts = rows.min(4 * self.threads());
        let data = Parts::new(data);
        self.run(parts, &|part| {
            let (from, to) = (rows * part / parts, rows * (part + 1) / parts);
            // SAFETY: the parts of the rows do not overlap, and each is handed out once.
            let rows = unsafe { data.part(from * width..to * width) };
            rows.chunks_exact_mut(width).enumerate().for_each(|(i, row)| body(from + i, row));
        });
    }
}
