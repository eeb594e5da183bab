//! Whole images, by which a training is judged.

use std::sync::{Arc, OnceLock};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use image::RgbImage;
use rand::Rng;
use rand_distr::StandardNormal;

use super::batch::NoiseShape;
use super::scores::ValidationScores;
use crate::data::dataset::PairReader;
use crate::data::random::{Purpose, generator_at};
use crate::data::stop::Stop;
use crate::diffusion::ChainNoise;
use crate::error::{Error, Result};

/// A validation image.
#[derive(Debug, Clone)]
pub struct ValidationImage<B: Backend> {
    /// The pair's name.
    pub name: String,
    /// The blurry image in [0, 1], `[1, 3, height, width]`, both multiples of 8.
    pub blur: Tensor<B, 4>,
    /// The sharp image, likewise.
    pub sharp: Tensor<B, 4>,
    /// The diffusion's noise, the same at every validation.
    pub noise: ChainNoise<B>,
    /// Whether the images are wanted side by side.
    pub pictured: bool,
    /// The set that the pair is of, from 0.
    pub set: usize,
    /// The PSNR of the blurry image in dB, once it has been computed: it is the same at every validation.
    pub blurred_psnr: Arc<OnceLock<f64>>,
    /// Where the image's score is written.
    pub scores: ValidationScores,
}

/// Serves validation pairs one by one, each cropped about its centre to multiples of 8, so that no network needs to
/// pad: stage one's encoder sees the sharp image too, and the score is over what the networks saw.
pub struct ValidationLoader<B: Backend> {
    reader: Arc<PairReader>,
    /// The pairs to serve.
    served: Vec<Served>,
    seed: u64,
    noise: NoiseShape,
    stop: Stop,
    scores: ValidationScores,
    device: B::Device,
}

/// A pair to serve.
#[derive(Clone)]
struct Served {
    /// Among all pairs.
    index: usize,
    set: usize,
    pictured: bool,
    blurred_psnr: Arc<OnceLock<f64>>,
}

impl<B: Backend> ValidationLoader<B> {
    /// A loader of pairs in sets, of which `sizes` says how many pairs each has, one set after the other. Of each set at
    /// most `images` pairs are served, spread evenly over all of it; the first `pictures` of these are wanted as pictures.
    /// A validation ends early where `stop` asks for it, and then counts as none.
    pub fn new(
        reader: PairReader,
        sizes: &[usize],
        [images, pictures]: [usize; 2],
        seed: u64,
        noise: NoiseShape,
        stop: Stop,
        device: B::Device,
    ) -> Self {
        let mut served = Vec::new();
        let mut start = 0;
        for (set, size) in sizes.iter().enumerate() {
            let pairs = reader.pairs();
            let end = pairs.len().min(start + size);
            let usable: Vec<usize> = (start..end)
                .filter(|&index| pairs[index].width >= 8 && pairs[index].height >= 8)
                .collect();
            let count = images.min(usable.len());
            served.extend((0..count).map(|i| Served {
                index: usable[i * usable.len() / count],
                set,
                pictured: i < pictures,
                blurred_psnr: Arc::default(),
            }));
            start = end;
        }
        Self {
            reader: Arc::new(reader),
            served,
            seed,
            noise,
            stop,
            scores: ValidationScores::default(),
            device,
        }
    }

    /// The scores of the current or last validation.
    pub fn scores(&self) -> ValidationScores {
        self.scores.clone()
    }

    fn with(&self, served: Vec<Served>, device: &B::Device) -> Self {
        Self {
            reader: Arc::clone(&self.reader),
            served,
            seed: self.seed,
            noise: self.noise,
            stop: self.stop.clone(),
            scores: self.scores.clone(),
            device: device.clone(),
        }
    }

    fn image(&self, served: &Served) -> Result<ValidationImage<B>> {
        let index = served.index;
        let pair = self.reader.read(index)?;
        let mut random = generator_at(self.seed, Purpose::Validation, index as u64, 0);
        let noise: Vec<f32> = (0..self.noise.values())
            .map(|_| random.sample(StandardNormal))
            .collect();
        Ok(ValidationImage {
            name: self.reader.pairs()[index].name.clone(),
            pictured: served.pictured,
            set: served.set,
            blurred_psnr: Arc::clone(&served.blurred_psnr),
            blur: centre(&pair.blur, &self.device),
            sharp: centre(&pair.sharp, &self.device),
            noise: self.noise.split(noise, 1, &self.device),
            scores: self.scores.clone(),
        })
    }
}

/// The largest centred part whose sides are multiples of 8.
fn centre<B: Backend>(image: &RgbImage, device: &B::Device) -> Tensor<B, 4> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (columns, rows) = (width / 8 * 8, height / 8 * 8);
    let (left, top) = ((width - columns) / 2, (height - rows) / 2);
    let pixels = image.as_raw();
    let mut planes = Vec::with_capacity(3 * rows * columns);
    for channel in 0..3 {
        for row in top..top + rows {
            let line = &pixels[3 * (row * width + left)..][..3 * columns];
            planes.extend(
                line.iter()
                    .skip(channel)
                    .step_by(3)
                    .map(|&v| f32::from(v) / 255.0),
            );
        }
    }
    Tensor::from_data(TensorData::new(planes, [1, 3, rows, columns]), device)
}

impl<B: Backend> DataLoader<B, ValidationImage<B>> for ValidationLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<ValidationImage<B>> + 'a> {
        self.scores.begin(self.served.len());
        Box::new(ValidationIterator {
            loader: self,
            position: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.served.len()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, ValidationImage<B>>> {
        Arc::new(self.with(self.served.clone(), device))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, ValidationImage<B>>> {
        let served = self.served.iter().take(end).skip(start).cloned().collect();
        Arc::new(self.with(served, &self.device))
    }
}

struct ValidationIterator<'a, B: Backend> {
    loader: &'a ValidationLoader<B>,
    position: usize,
}

impl<B: Backend> Iterator for ValidationIterator<'_, B> {
    type Item = ValidationImage<B>;

    fn next(&mut self) -> Option<ValidationImage<B>> {
        let loader = self.loader;
        loop {
            let served = loader.served.get(self.position)?;
            if loader.stop.is_asked() {
                return None;
            }
            self.position += 1;
            match loader.image(served) {
                Ok(image) => return Some(image),
                // One picture does not end a training.
                Err(error @ Error::Image { .. }) => {
                    let note = format!("{error}; it is not validated on");
                    loader.reader.notes().tell(note);
                    loader.scores.pass_over();
                }
                Err(error) => {
                    loader.stop.fail(error, None);
                    return None;
                }
            }
        }
    }
}

impl<B: Backend> DataLoaderIterator<ValidationImage<B>> for ValidationIterator<'_, B> {
    fn progress(&self) -> Progress {
        Progress::new(self.position, self.loader.served.len())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::data::dataset::DEFAULT_CACHE_BYTES;
    use crate::data::dataset::examples::gradient_pairs;
    use crate::data::loader::ValidationScore;

    #[test]
    fn validation_images_are_centred_and_have_the_same_noise_each_time() {
        let (_folder, pairs) = gradient_pairs(5, 27, 20);
        let noise = NoiseShape {
            draws: 1,
            tokens: 2,
            channels: 3,
        };
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES);
        let (stop, device) = (Stop::new(), Default::default());
        let loader = ValidationLoader::<Flex>::new(reader, &[5], [3, 2], 1, noise, stop, device);
        let images: Vec<_> = loader.iter().collect();
        let again: Vec<_> = loader.iter().collect();
        assert_eq!(images.len(), 3);
        let mut pairs = Vec::new();
        for (image, again) in images.iter().zip(&again) {
            assert_eq!(image.blur.dims(), [1, 3, 16, 24]);
            assert_eq!(image.noise.start.to_data(), again.noise.start.to_data());
            let corner: Vec<f32> = image
                .blur
                .clone()
                .slice([0..1, 0..3, 0..1, 0..1])
                .into_data()
                .to_vec()
                .unwrap();
            let corner: Vec<_> = corner
                .iter()
                .map(|value| (value * 255.0).round() as u8)
                .collect();
            assert_eq!(corner[1..], [1, 2], "column and row of the first pixel");
            pairs.push(corner[0]);
        }
        assert_eq!(pairs, [0, 1, 3], "spread over the pairs");
        assert_ne!(
            images[0].noise.start.to_data(),
            images[1].noise.start.to_data()
        );
        let pictured: Vec<_> = images.iter().map(|image| image.pictured).collect();
        assert_eq!(pictured, [true, true, false]);
        let score = |psnr| ValidationScore {
            psnr,
            ssim: 0.5,
            gain: psnr - 1.0,
        };
        for psnr in [1.0, 3.0] {
            loader.scores().push(0, score(psnr));
        }
        assert_eq!(loader.scores().mean(), Some(score(2.0)));
        loader.scores().push(2, score(4.0));
        assert_eq!(loader.scores().mean(), Some(score(3.0)), "each set alike");
        assert!(loader.iter().next().is_some());
        assert_eq!(loader.scores().mean(), None, "a new validation begins");
    }

    #[test]
    fn the_numbers_of_images_and_pictures_hold_for_each_set() {
        let (_folder, pairs) = gradient_pairs(7, 27, 20);
        let noise = NoiseShape {
            draws: 1,
            tokens: 1,
            channels: 1,
        };
        let reader = PairReader::new(pairs, DEFAULT_CACHE_BYTES);
        let (stop, device) = (Stop::new(), Default::default());
        let loader =
            ValidationLoader::<Flex>::new(reader, &[4, 0, 3], [2, 1], 1, noise, stop, device);
        let served: Vec<_> = loader
            .iter()
            .map(|image| (image.name, image.set, image.pictured))
            .collect();
        let expected = [
            ("000", 0, true),
            ("002", 0, false),
            ("004", 2, true),
            ("005", 2, false),
        ];
        assert_eq!(
            served,
            expected.map(|(name, set, pictured)| (name.to_string(), set, pictured))
        );
        let score = ValidationScore {
            psnr: 1.0,
            ssim: 0.5,
            gain: 0.0,
        };
        for set in [0, 0, 2, 2] {
            assert!(!loader.scores().is_complete());
            loader.scores().push(set, score);
        }
        assert!(loader.scores().is_complete());
        loader
            .iter()
            .next()
            .unwrap()
            .blurred_psnr
            .set(20.0)
            .unwrap();
        let again = loader.iter().next().unwrap();
        assert_eq!(again.blurred_psnr.get(), Some(&20.0), "computed once");
    }
}
