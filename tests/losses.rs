//! The losses against PyTorch's values and gradients, and the transform against its definition.
#![cfg(feature = "train")]

mod common;

use std::f64::consts::TAU;

use burn::backend::Autodiff;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use common::{Fixture, assert_close, relative_difference};
use hi_diff::training::loss::{charbonnier, frequency, l1, light};

on_each_backend!(
    published_values_and_gradients,
    the_transform_of_any_size,
    light_is_compared_by_channel_and_not_by_pixel,
    equal_images_have_no_loss,
);

/// A loss of an output and a target.
type Loss<B> = fn(Tensor<B, 4>, Tensor<B, 4>) -> Tensor<B, 1>;

fn published_values_and_gradients<B: Backend>() {
    let fixture = Fixture::open("modules/losses");
    let losses: [(&str, Loss<Autodiff<B>>); 3] = [
        ("l1", l1),
        ("charbonnier", charbonnier),
        ("frequency", frequency),
    ];
    for size in ["even", "odd"] {
        for (name, loss) in losses {
            let what = format!("{size}.{name}");
            let output: Tensor<Autodiff<B>, 4> = fixture.tensor(&format!("{size}.output"));
            let output = output.require_grad();
            let value = loss(output.clone(), fixture.tensor(&format!("{size}.target")));
            let gradient = output.grad(&value.backward()).unwrap();
            let expected = fixture.data(&format!("{what}.value"));
            assert_close(&what, value.inner(), &expected, 1e-5);
            let expected = fixture.data(&format!("{what}.gradient"));
            assert_close(&format!("{what}, gradient"), gradient, &expected, 1e-4);
        }
    }
}

/// Pixels of either sign, without a pattern.
fn pixels(height: usize, width: usize) -> Vec<f64> {
    let value = |index: usize| ((index * index * 37 + index * 11) % 101) as f64 / 101.0 - 0.4;
    (0..2 * 3 * height * width).map(value).collect()
}

fn the_transform_of_any_size<B: Backend>() {
    for (height, width) in [(1, 1), (1, 5), (2, 2), (7, 8), (6, 9), (4, 24)] {
        let values = pixels(height, width);
        let mut sum = 0.0;
        for plane in values.chunks(height * width) {
            for u in 0..height {
                for v in 0..width {
                    let (mut real, mut imaginary) = (0.0_f64, 0.0_f64);
                    for (index, value) in plane.iter().enumerate() {
                        let (row, column) = (index / width, index % width);
                        let turns =
                            (u * row) as f64 / height as f64 + (v * column) as f64 / width as f64;
                        real += value * (TAU * turns).cos();
                        imaginary -= value * (TAU * turns).sin();
                    }
                    sum += real.abs() + imaginary.abs();
                }
            }
        }
        let expected = sum / (2 * values.len()) as f64;
        let data = TensorData::new(values, [2, 3, height, width]).convert::<f32>();
        let image = Tensor::<B, 4>::from_data(data, &Default::default());
        let zeros = image.zeros_like();
        let found = frequency(image, zeros).into_data();
        let expected = TensorData::from([expected as f32]);
        let error = relative_difference(&found, &expected);
        assert!(error < 1e-5, "{height}×{width}: off by {error:.1e}");
    }
}

fn light_is_compared_by_channel_and_not_by_pixel<B: Backend>() {
    // Black and white beside each other, of which a blur makes light of one half: 188 of 255 as it is encoded.
    let image = |red: [f32; 2], blue: [f32; 2]| {
        let data = TensorData::new([red, [0.2, 0.9], blue].concat(), [1, 3, 1, 2]);
        Tensor::<Autodiff<B>, 4>::from_data(data, &Default::default()).require_grad()
    };
    let sharp = image([0.0, 1.0], [0.3, 0.6]);
    let value = |output: &Tensor<Autodiff<B>, 4>| {
        let value = light(output.clone(), sharp.clone()).into_data();
        value.iter::<f64>().next().unwrap()
    };
    // Without the foot of the curve, black is not quite without light.
    let blurred = image([0.735_5, 0.735_5], [0.6, 0.3]);
    assert!(value(&blurred) < 2e-4, "{}", value(&blurred));
    let grey = image([0.5, 0.5], [0.3, 0.6]);
    let expected = (0.5 - 0.214) / 3.0;
    assert!((value(&grey) - expected).abs() < 2e-4, "{}", value(&grey));

    // What is too dark as a whole gets lighter, each pixel by the slope of the curve.
    let loss = light(grey.clone(), sharp.clone());
    let gradient = grey.grad(&loss.backward()).unwrap().into_data();
    let gradient: Vec<f32> = gradient.iter().collect();
    assert!(
        gradient[0] < 0.0 && gradient[0] == gradient[1],
        "{gradient:?}"
    );
    assert_eq!(gradient[2..], [0.0; 4]);
}

fn equal_images_have_no_loss<B: Backend>() {
    let values = TensorData::new(pixels(4, 6), [2, 3, 4, 6]).convert::<f32>();
    let image = Tensor::<Autodiff<B>, 4>::from_data(values, &Default::default()).require_grad();
    for (loss, expected) in [
        (l1 as Loss<Autodiff<B>>, 0.0),
        (charbonnier, 1e-3),
        (frequency, 0.0),
        (light, 0.0),
    ] {
        let value = loss(image.clone(), image.clone().detach());
        let gradient = image.grad(&value.backward()).unwrap().into_data();
        assert!(gradient.iter::<f32>().all(|value| value == 0.0));
        let value = value.into_data().iter::<f64>().next().unwrap();
        assert!(
            (value - expected).abs() < 1e-9,
            "{value} instead of {expected}"
        );
    }
}
