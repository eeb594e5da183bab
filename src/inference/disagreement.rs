//! Several results from several starting noises: their mean, and where they disagree.

use crate::error::Result;
use crate::picture::Photograph;

/// Per pixel, the standard deviation of several results: the root of the mean variance of red, green and blue, with
/// values from 0 to 1 and N − 1 in the denominator.
#[derive(Debug, Clone, PartialEq)]
pub struct Disagreement {
    width: usize,
    height: usize,
    deviation: Vec<f32>,
}

impl Disagreement {
    /// Takes `[height, width]` deviations.
    pub(super) fn new(width: usize, height: usize, deviation: Vec<f32>) -> Self {
        Self {
            width,
            height,
            deviation,
        }
    }

    /// `[height, width]`
    pub fn deviation(&self) -> &[f32] {
        &self.deviation
    }

    /// The greatest deviation, which is white in the [`picture`](Self::picture).
    pub fn white(&self) -> f32 {
        self.deviation.iter().copied().fold(0.0, f32::max)
    }

    /// A gray picture: black where all agree, [`white`](Self::white) where they disagree most, and linear between.
    ///
    /// # Errors
    /// None that can happen: the sizes fit.
    pub fn picture(&self) -> Result<Photograph> {
        let scale = self.white().max(f32::MIN_POSITIVE);
        let values = self.deviation.iter().map(|value| value / scale).collect();
        Photograph::from_gray(self.width, self.height, values)
    }
}

/// Mean and squared deviations of the results so far (Welford), `[3, height, width]` each.
pub(super) struct Samples {
    count: usize,
    mean: Vec<f32>,
    squares: Vec<f32>,
}

impl Samples {
    pub fn new(first: &[f32]) -> Self {
        Self {
            count: 1,
            mean: first.to_vec(),
            squares: vec![0.0; first.len()],
        }
    }

    /// Takes one more result, of the same size.
    pub fn add(&mut self, values: &[f32]) {
        self.count += 1;
        let share = 1.0 / self.count as f32;
        for ((mean, squares), &value) in self.mean.iter_mut().zip(&mut self.squares).zip(values) {
            let before = value - *mean;
            *mean += before * share;
            *squares += before * (value - *mean);
        }
    }

    /// The mean, and where the results of `width` pixels a row disagree.
    pub fn finish(self, width: usize, height: usize) -> (Vec<f32>, Disagreement) {
        let pixels = width * height;
        let degrees = 3.0 * (self.count.max(2) - 1) as f32;
        let deviation = (0..pixels).map(|at| {
            let squares: f32 = (0..3).map(|plane| self.squares[plane * pixels + at]).sum();
            (squares / degrees).sqrt()
        });
        let disagreement = Disagreement::new(width, height, deviation.collect());
        (self.mean, disagreement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pixels: in the first the samples agree, in the second red alone differs.
    fn two_pixels(red: &[f32]) -> (Vec<f32>, Disagreement) {
        let sample = |red| [0.25, red, 0.5, 0.5, 0.75, 0.75];
        let mut samples = Samples::new(&sample(red[0]));
        for &red in &red[1..] {
            samples.add(&sample(red));
        }
        samples.finish(2, 1)
    }

    #[test]
    fn the_mean_and_the_deviation_are_the_closed_form() {
        let (mean, disagreement) = two_pixels(&[0.1, 0.2, 0.6]);
        assert!((mean[1] - 0.3).abs() < 1e-6, "{}", mean[1]);
        assert_eq!([mean[0], mean[2], mean[5]], [0.25, 0.5, 0.75]);
        let variance: f32 = (0.04 + 0.01 + 0.09) / 2.0;
        let expected = (variance / 3.0).sqrt();
        assert_eq!(disagreement.deviation()[0], 0.0);
        assert!((disagreement.white() - expected).abs() < 1e-6);
        let picture = disagreement.picture().unwrap().to_rgb8();
        assert_eq!(picture.into_raw(), [0, 0, 0, 255, 255, 255]);
    }

    #[test]
    fn full_agreement_is_black() {
        let (mean, disagreement) = two_pixels(&[0.1; 5]);
        assert_eq!((mean[1], disagreement.white()), (0.1, 0.0));
        let picture = disagreement.picture().unwrap().to_rgb8();
        assert_eq!(picture.into_raw(), [0; 6]);
    }
}
