//! The one table between Burn's module paths and the published PyTorch names.

use super::Network;

/// The published name of the parameter at `path`, the names of fields, list items and enum variants on the way to it.
pub(super) fn pytorch_name(network: Network, path: &[String]) -> String {
    let mut name = Vec::new();
    let mut parent = "";
    for segment in path {
        let renamed = match network {
            Network::Transformer => transformer(segment),
            Network::LatentEncoder | Network::ConditionEncoder => latent_encoder(parent, segment),
            Network::Denoiser => denoiser(parent, segment),
        };
        name.extend(renamed);
        parent = segment;
    }
    name.join(".")
}

/// What a path's segment is called; nothing for one that PyTorch does not have.
type Renamed = Option<String>;

fn renamed(name: &str) -> Renamed {
    Some(name.to_string())
}

fn transformer(segment: &str) -> Renamed {
    match segment {
        "patch_embed" => renamed("patch_embed.proj"),
        "norm1" | "norm2" => Some(format!("{segment}.body")),
        // Resampling: the convolution before the pixel shuffle.
        "conv" => renamed("body.0"),
        "multi_scale" | "modulation" => None,
        "scale" => renamed("ln1"),
        "shift" => renamed("ln2"),
        // Each pair of linear layers has a rearrangement before each.
        "tokens1" => renamed("down_1.1"),
        "channels1" => renamed("down_1.3"),
        "tokens2" => renamed("down_2.1"),
        "channels2" => renamed("down_2.3"),
        _ => renamed(segment),
    }
}

fn latent_encoder(parent: &str, segment: &str) -> Renamed {
    match (parent, segment) {
        (_, "conv_in") => renamed("conv1.0"),
        (_, "head" | "Single" | "Triple") => None,
        ("Single", "conv") => renamed("conv2"),
        ("Triple", "conv1") => renamed("conv2.0"),
        ("Triple", "conv2") => renamed("conv2.2"),
        ("Triple", "conv3") => renamed("conv2.4"),
        // A residual block: convolution, activation, convolution.
        (_, "conv1") => renamed("0"),
        (_, "conv2") => renamed("2"),
        (_, "mixer") => renamed("mlp"),
        (_, "project") => renamed("end.0"),
        _ => mixer(segment),
    }
}

fn denoiser(parent: &str, segment: &str) -> Renamed {
    match (parent, segment) {
        (_, "Mixer" | "Mlp") => None,
        (_, "time_scale") => renamed("time_mlp"),
        ("Mixer", "first") => renamed("first_layer.0"),
        ("Mixer", "last") => renamed("final_layer.0"),
        // A mixer block and its activation.
        ("blocks", index) => Some(format!("{index}.0")),
        ("Mlp", "first") => renamed("resmlp.0"),
        ("Mlp", "layers") => renamed("resmlp"),
        // The first layer and its activation come before them.
        ("layers", index) => Some(
            index
                .parse()
                .map_or(index.to_string(), |n: usize| format!("{}.resmlp.0", n + 2)),
        ),
        _ => mixer(segment),
    }
}

/// A mixer block: two maps, each linear, activation, linear.
fn mixer(segment: &str) -> Renamed {
    match segment {
        "patch_in" => renamed("patch_mixer.0"),
        "patch_out" => renamed("patch_mixer.2"),
        "channel_in" => renamed("channel_mixer.0"),
        "channel_out" => renamed("channel_mixer.2"),
        _ => renamed(segment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_published_names() {
        use Network::{ConditionEncoder, Denoiser, LatentEncoder, Transformer};
        for (network, path, expected) in [
            (Transformer, "patch_embed.weight", "patch_embed.proj.weight"),
            (Transformer, "multi_scale.tokens2.bias", "down_2.1.bias"),
            (
                Transformer,
                "encoder_level1.him.norm2.weight",
                "encoder_level1.him.norm2.body.weight",
            ),
            (
                Transformer,
                "latent.blocks.5.ffn.modulation.shift.weight",
                "latent.blocks.5.ffn.ln2.weight",
            ),
            (
                Transformer,
                "refinement.blocks.0.attn.temperature",
                "refinement.blocks.0.attn.temperature",
            ),
            (Transformer, "up4_3.conv.weight", "up4_3.body.0.weight"),
            (LatentEncoder, "conv_in.weight", "conv1.0.weight"),
            (LatentEncoder, "blocks.3.conv2.bias", "blocks.3.2.bias"),
            (LatentEncoder, "head.Single.conv.bias", "conv2.bias"),
            (
                ConditionEncoder,
                "head.Triple.conv3.weight",
                "conv2.4.weight",
            ),
            (
                ConditionEncoder,
                "mixer.patch_out.weight",
                "mlp.patch_mixer.2.weight",
            ),
            (ConditionEncoder, "mixer.norm1.weight", "mlp.norm1.weight"),
            (ConditionEncoder, "project.weight", "end.0.weight"),
            (Denoiser, "Mixer.time_scale", "time_mlp"),
            (Denoiser, "Mixer.first.bias", "first_layer.0.bias"),
            (
                Denoiser,
                "Mixer.blocks.1.channel_in.weight",
                "blocks.1.0.channel_mixer.0.weight",
            ),
            (Denoiser, "Mixer.last.weight", "final_layer.0.weight"),
            (Denoiser, "Mlp.first.weight", "resmlp.0.weight"),
            (Denoiser, "Mlp.layers.3.weight", "resmlp.5.resmlp.0.weight"),
        ] {
            let segments: Vec<String> = path.split('.').map(String::from).collect();
            assert_eq!(pytorch_name(network, &segments), expected, "{path}");
        }
    }
}
