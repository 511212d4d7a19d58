//! Grids of embeddings: put together from tiles, cut, made smaller.

/// Embeddings in rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grid {
    /// `[rows, columns, width]`.
    pub(crate) values: Vec<f32>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) width: usize,
}

/// A grid in square tiles, each `[side * side, width]`, row by row.
pub(crate) struct Tiled<'a> {
    pub(crate) tiles: &'a [&'a [f32]],
    /// Tiles in a row.
    pub(crate) columns: usize,
    /// Embeddings along one side of a tile.
    pub(crate) side: usize,
    pub(crate) width: usize,
}

impl Tiled<'_> {
    /// The part of `size` (rows, columns) that begins at `from`.
    pub(crate) fn cut(&self, from: (usize, usize), size: (usize, usize)) -> Grid {
        let mut values = Vec::with_capacity(size.0 * size.1 * self.width);
        for row in from.0..from.0 + size.0 {
            for column in from.1..from.1 + size.1 {
                let tile = self.tiles[row / self.side * self.columns + column / self.side];
                let at = (row % self.side * self.side + column % self.side) * self.width;
                values.extend(&tile[at..at + self.width]);
            }
        }
        Grid {
            values,
            rows: size.0,
            columns: size.1,
            width: self.width,
        }
    }
}

/// Where an output sample lies between two input samples.
struct Tap {
    low: usize,
    high: usize,
    /// Weight of `high`.
    part: f32,
}

impl Grid {
    /// Bilinear, without smoothing.
    ///
    /// # Source
    /// torch `interpolate(mode="bilinear", align_corners=False)`.
    pub(crate) fn resized(self, rows: usize, columns: usize) -> Self {
        if (rows, columns) == (self.rows, self.columns) {
            return self;
        }
        let width = self.width;
        let (down, across) = (taps(self.rows, rows), taps(self.columns, columns));
        let mut values = Vec::with_capacity(rows * columns * width);
        let sample = |row: usize, column: usize| {
            let at = (row * self.columns + column) * width;
            &self.values[at..at + width]
        };
        for y in &down {
            for x in &across {
                let corners = [
                    sample(y.low, x.low),
                    sample(y.low, x.high),
                    sample(y.high, x.low),
                    sample(y.high, x.high),
                ];
                values.extend((0..width).map(|at| {
                    let [a, b, c, d] = corners.map(|corner| corner[at]);
                    let top = (1.0 - x.part) * a + x.part * b;
                    let bottom = (1.0 - x.part) * c + x.part * d;
                    (1.0 - y.part) * top + y.part * bottom
                }));
            }
        }
        Self {
            values,
            rows,
            columns,
            width,
        }
    }

    /// Appends the rows to `out`, each followed by `end`.
    pub(crate) fn push_lines(&self, end: &[f32], out: &mut Vec<f32>) {
        for row in self.values.chunks_exact((self.columns * self.width).max(1)) {
            out.extend(row);
            out.extend(end);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "truncation is meant; not negative"
)]
fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    let tap = |at: usize| {
        let place = ((at as f32 + 0.5) * scale - 0.5).max(0.0);
        let low = (place as usize).min(from - 1);
        Tap {
            low,
            high: (low + 1).min(from - 1),
            part: place - low as f32,
        }
    };
    (0..to).map(tap).collect()
}
