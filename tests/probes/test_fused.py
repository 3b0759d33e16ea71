"""The fused kernels against torch's own operations: on a GPU, or by Triton's interpreter in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="this torch comes without Triton")

PROGRAM = """
import torch
from ssl_risk_rs.probes import torch_fused as fused
from ssl_risk_rs.probes.torch_fused import softmax_rows
from ssl_risk_rs.probes.torch_softmax import SoftmaxSums, softmax_residual

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
for b, k in [(1, 2), (7, 3), (37, 10), (20, 1000), (3, 5000)]:
    for size in (0.1, 1.0, 30.0):
        torch.manual_seed(b * k)
        z, targets = torch.randn(b, k) * size, torch.randint(0, k, (b,))
        z[0, :2] = z[0].max() + 1  # two equal scores on top: the lower class is predicted
        targets[0] = 1
        plain, sums = z.clone(), SoftmaxSums(torch.device("cpu"))
        softmax_residual(plain, targets, sums)
        turned = z.clone().to(device)
        loss, entropy, wrong = softmax_rows(turned, targets.to(device))
        wide = z.double()
        exact = wide.softmax(1)
        exact[torch.arange(b), targets] -= 1
        # residuals are at most 1; sums of up to 5,000 float32 exponentials
        assert (turned.cpu() - exact).abs().max() <= 1e-6, (b, k, size)
        assert (turned.cpu() - plain).abs().max() <= 1e-6, (b, k, size)
        true = torch.nn.functional.cross_entropy(wide, targets, reduction="sum").item()
        assert abs(loss.sum().item() - true) <= 1e-6 * (b + true), (b, k, size)
        assert abs(entropy.sum().item() - sums.entropy.item()) <= 1e-6 * b * (1 + sums.entropy.item()), (b, k, size)
        assert wrong.sum().item() == sums.errors.item(), (b, k, size)
from ssl_risk_rs.probes.torch_fused import scale_rows

for n, d in [(5, 3), (9, 1030)]:
    for kind in (torch.float16, torch.float32):
        x = (torch.randn(n, d) * 3 + 40).to(kind)
        shift, scale = torch.randn(d) + 40, torch.rand(d)
        scale[0] = 0.0
        numbers = torch.tensor([3, 1, 1, 4])
        for chosen in (None, numbers):
            rows = x if chosen is None else x[chosen]
            given = None if chosen is None else chosen.to(device)
            found = scale_rows(x.to(device), given, shift.to(device), scale.to(device)).cpu()
            assert torch.equal(found, (rows.float() - shift) * scale), (n, d, kind, chosen)
from ssl_risk_rs.probes.torch_outcomes import Outcomes, outcomes

names = ("predicted", "rank", "loss", "margin", "finite")
for b, k in [(1, 1), (7, 3), (37, 10), (9, 1000), (3, 5000)]:
    for size in (0.1, 30.0):
        z, targets = torch.randn(b, k) * size, torch.randint(0, k, (b,))
        z[0] = z[0].round()  # equal scores
        if b > 5:
            z[2, 1], z[3, 0], z[4, 2] = float("nan"), float("inf"), float("-inf")
        found = Outcomes.empty(b, device)
        where = [getattr(found, name) for name in names]
        fused.judge_scores(z.to(device), targets.to(device), *where)
        right = outcomes(z.clone(), targets)
        assert torch.equal(found.finite.cpu(), right.finite) and found.finite.sum() == (b if b <= 5 else b - 3)
        sound = right.finite
        for name in names[:-1]:
            left, true = (getattr(one, name)[sound.to(getattr(one, name).device)].cpu() for one in (found, right))
            # sums of 5,000 float32 exponentials
            assert torch.allclose(left, true, rtol=2e-6, atol=2e-6), (b, k, size, name)
print("same")
"""


def test_the_kernels_give_what_torch_gives():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "same", done.stderr


@pytest.mark.gpu
def test_the_kernels_give_what_torch_gives_on_a_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip() == "same", done.stderr
