"""The Transformer against PyTorch."""

import jax
import numpy as np
import pytest

from jaxlabs.models.transformer_lm import loss

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.peers
@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.2},
        {
            "positions": "learned",
            "activation": "gelu",
            "tie_embeddings": True,
            "bias": False,
        },
        {
            "qkv_bias": True,
            "positions": "learned",
            "attention_window": 3,
            "activation": "gelu_tanh",
        },
    ],
)
def test_loss_and_gradients_of_the_whole_model_equal_pytorch(
    key, options, tiny, parameters, logits_of, batch_of, copy_parameters
):
    torch = pytest.importorskip("torch")
    from jaxlabs.benchmark.peers.torch_models import GPT

    model, batch = tiny(**options), batch_of()
    params = parameters(model)
    batch["weights"][0, 5:] = 0

    def mean(params):
        output = loss(model, {"params": params}, batch, key, train=False)
        return output.loss_sum / output.weight_sum

    ours, gradients = jax.jit(jax.value_and_grad(mean))(params)

    torch_gpt, expected = GPT(model.config).eval(), GPT(model.config)
    copy_parameters(torch_gpt, params)
    copy_parameters(expected, gradients)
    logits = torch_gpt(torch.tensor(batch["inputs"]).long())
    weights = torch.tensor(batch["weights"]).flatten()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(batch["targets"]).long().flatten(), reduction="none"
    )
    theirs = (losses * weights).sum() / weights.sum()
    theirs.backward()

    np.testing.assert_allclose(
        logits_of(model, params, batch["inputs"]), logits.detach().numpy(), atol=1e-5
    )
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
    for (name, parameter), gradient in zip(
        torch_gpt.named_parameters(), expected.parameters(), strict=True
    ):
        np.testing.assert_allclose(
            gradient.detach().numpy(), parameter.grad.numpy(), atol=1e-5, err_msg=name
        )
