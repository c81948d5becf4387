"""Networks of every family without their last layer, against torchvision's own forward."""

import copy

import pytest
import torch
import torchvision_networks as networks
from torch import nn
from torchvision import models

from mmreg_torchvision.backbones import make_backbone, make_network
from mmreg_torchvision.weights import clips, least_sizes, pictures

FAMILIES = [
    *networks.SMALL,
    *(pytest.param(name, marks=pytest.mark.slow) for name in networks.LARGE),
]


HUGE = ("mvit", "vit_h", "vit_l", "regnet_y_128")


def of_case(name, tokens=False, checkpoints=False):
    """The reference, its backbone (of a copy), and values to encode."""
    case = networks.CASES[name]
    reference = networks.make(case)
    backbone = make_backbone(copy.deepcopy(reference), tokens, checkpoints)
    return case, reference, backbone.eval(), torch.randn(2, *case.shape)


def test_every_family_of_torchvision_is_tested():
    classes = {type(networks.make(networks.CASES[name])) for name in networks.SMALL}
    large = {models.AlexNet, models.VGG, models.Inception3, models.video.S3D}
    builders = [models.get_model_builder(name) for name in [*pictures(), *clips()]]
    returned = {builder.__annotations__["return"] for builder in builders}
    assert {each if isinstance(each, str) else each.__name__ for each in returned} == {
        each.__name__ for each in classes | large
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_layer_makes_torchvisions_classes_of_what_is_pooled(name):
    _, reference, backbone, values = of_case(name)
    last = networks.last_layer(reference)
    with torch.no_grad():
        pooled, logits = backbone(values), reference(values)
    assert pooled.shape == (2, backbone.out_features)
    if name == "squeezenet":  # whose last layer comes before the pooling
        seen = []
        last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        reference(values)
        torch.testing.assert_close(pooled, seen[0].mean((2, 3)), rtol=1e-5, atol=1e-5)
        return
    classes = nn.functional.linear(pooled, last.weight.flatten(1), last.bias)
    torch.testing.assert_close(classes, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_the_positions_of_the_last_feature_map_row_by_row(name):
    case, reference, backbone, values = of_case(name, tokens=True)
    seen = []
    reference.get_submodule(case.map_name).register_forward_hook(lambda _, given, result: seen.append(result))
    with torch.no_grad():
        reference(values)
        tokens = backbone(values)
    expected = case.as_map(seen[0])
    if expected.ndim > 3:
        expected = torch.stack([row.reshape(len(row), -1).T for row in expected])
    assert tokens.shape[2] == backbone.out_features
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [False, True], ids=["pooled", "tokens"])
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_every_weight_and_the_stages_hold_all_but_the_tail(name, tokens):
    _, _, backbone, values = of_case(name, tokens)
    backbone(values).square().sum().backward()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []
    staged = [parameter for stage in backbone.stages() for parameter in stage.parameters()]
    assert len(staged) == len(set(staged))
    rest = {key.partition(".")[0] for key, parameter in backbone.named_parameters() if parameter not in set(staged)}
    assert rest <= {"classifier", "heads", "head", "fc", "encoder", "norm"}
    assert all(any(True for _ in stage.parameters()) for stage in backbone.stages())
    assert len(backbone.stages()) >= 3


@pytest.mark.parametrize("name", FAMILIES)
def test_checkpointed_gradients_are_the_same_and_move_no_statistics_twice(name):
    results = []
    for checkpoints in (False, True):
        _, _, backbone, values = of_case(name, checkpoints=checkpoints)
        for module in backbone.train().modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        torch.manual_seed(3)  # for stochastic depth
        backbone(torch.cat([values, -values])).square().sum().backward()
        gradients = {key: parameter.grad for key, parameter in backbone.named_parameters()}
        results.append((gradients, dict(backbone.named_buffers())))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_a_checkpointed_network_keeps_less_for_the_backward_pass():
    kept = []
    for checkpoints in (False, True):
        _, _, backbone, values = of_case("resnet", checkpoints=checkpoints)
        kept.append(0)

        def count(saved):
            kept[-1] += saved.numel()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(count, lambda saved: saved):
            backbone.train()(values)
    assert kept[1] < kept[0] / 4


def test_the_stages_of_a_residual_network_are_its_stem_and_its_layers():
    _, _, backbone, _ = of_case("resnet")
    assert [len(stage) for stage in backbone.stages()] == [4, 1, 1, 1, 1]
    assert backbone.stages()[1][0] is backbone.layer1


def test_plain_layers_are_stages_up_to_each_pooling():
    backbone = make_backbone(models.alexnet(weights=None), tokens=True, checkpoints=False)
    assert [len(stage) for stage in backbone.stages()] == [3, 3, 7]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name for name in [*pictures(), *clips()] if not name.startswith(("mvit", "vit_h", "vit_l", "regnet_y_128"))],
)
def test_every_network_encodes_the_least_that_it_takes(name):
    frames, least = least_sizes(name)
    least = int(name.rpartition("_")[2]) if name.startswith("vit") else least
    torch.manual_seed(0)
    network = make_network(name, (least, least), initialized=False).eval()
    reference = copy.deepcopy(network)
    shape = (3, frames, least, least) if name in clips() else (3, least, least)
    values = torch.randn(1, *shape)
    with torch.no_grad():
        pooled = make_backbone(network, tokens=False, checkpoints=False)(values)
        logits = reference(values)
    if name.startswith("squeezenet"):
        return
    last = networks.last_layer(reference)
    torch.testing.assert_close(nn.functional.linear(pooled, last.weight.flatten(1), last.bias), logits)
