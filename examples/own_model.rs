//! The model's blocks in a network of one's own, trained by Burn's own means.
//!
//! `cargo run --example own_model`
//!
//! The network takes noise out of pictures. A latent encoder, much smaller than the picture, sees all of it; HIM tells
//! every pixel what it saw; MDTA and GDFN work on the pixels. Around them are Burn's own convolutions.

use burn::backend::{Autodiff, Flex};
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Device, Distribution, ElementConversion, Tensor};
use hi_diff::model::{
    Gdfn, GdfnConfig, Him, HimConfig, LatentEncoder, LatentEncoderConfig, LayerNorm,
    LayerNormConfig, Mdta, MdtaConfig,
};

/// A block is a module like any other, so `derive` finds its parameters.
#[derive(Module, Debug)]
struct Denoiser<B: Backend> {
    encoder: LatentEncoder<B>,
    embed: Conv2d<B>,
    guide: Him<B>,
    norm1: LayerNorm<B>,
    attention: Mdta<B>,
    norm2: LayerNorm<B>,
    feed_forward: Gdfn<B>,
    output: Conv2d<B>,
}

impl<B: Backend> Denoiser<B> {
    fn new(device: &Device<B>) -> Self {
        let (channels, heads, embed_dim, group) = (16, 2, 8, 2);
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        Self {
            encoder: LatentEncoderConfig {
                blocks: 1,
                ..Default::default()
            }
            .init(3, embed_dim, group, device),
            embed: conv(3, channels),
            // The encoder's tokens have four times `embed_dim` channels.
            guide: HimConfig::new(channels, 4 * embed_dim, heads).init(device),
            norm1: LayerNormConfig::new(channels).init(device),
            attention: MdtaConfig::new(channels, heads).init(device),
            norm2: LayerNormConfig::new(channels).init(device),
            feed_forward: GdfnConfig::new(channels, 2.0).init(device),
            output: conv(channels, 3),
        }
    }

    /// # Shapes
    /// - noisy and output: `[batch, 3, height, width]`, height and width multiples of 4
    fn forward(&self, noisy: Tensor<B, 4>) -> Tensor<B, 4> {
        let prior = self.encoder.forward(noisy.clone()); // [batch, group², 4 · embed_dim]
        let x = self.embed.forward(noisy.clone()); // [batch, channels, height, width]
        let x = self.guide.forward(x, prior);
        // Norm, block and residual in one: on Flex and NdArray by one kernel, there and back.
        let x = self.attention.forward_residual(x, &self.norm1, None);
        let x = self.feed_forward.forward_residual(x, &self.norm2, None);
        noisy + self.output.forward(x)
    }
}

/// One step of Burn's optimiser, and the loss before it.
fn step<B: AutodiffBackend>(
    model: Denoiser<B>,
    optimizer: &mut impl Optimizer<Denoiser<B>, B>,
    [noisy, clean]: [Tensor<B, 4>; 2],
) -> (Denoiser<B>, f32) {
    let loss = (model.forward(noisy) - clean).abs().mean();
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let model = optimizer.step(2e-3, model, gradients);
    (model, loss.into_scalar().elem())
}

fn train<B: AutodiffBackend>(steps: usize) -> Vec<f32> {
    let device = Default::default();
    B::seed(&device, 1);
    let mut model = Denoiser::<B>::new(&device);
    println!("{} parameters on {}", model.num_params(), B::name(&device));
    let mut optimizer = AdamWConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..steps {
        let uniform = |low, high, shape| {
            Tensor::<B, 4>::random(shape, Distribution::Uniform(low, high), &device)
        };
        // Four pictures of one colour each.
        let clean = uniform(0.0, 1.0, [4, 3, 1, 1]).expand([4, 3, 32, 32]);
        let noisy = clean.clone() + uniform(-0.2, 0.2, [4, 3, 32, 32]);
        let loss;
        (model, loss) = step(model, &mut optimizer, [noisy, clean]);
        losses.push(loss);
    }
    losses
}

fn main() {
    let losses = train::<Autodiff<Flex>>(100);
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    println!("mean error at the first step {first:.3}, at the last {last:.3}; of the noise 0.1");
    assert!(last < 0.08, "it takes no noise out");
}
