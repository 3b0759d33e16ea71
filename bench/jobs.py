"""The jobs: which methods run on what, and what their answers are held against.

Each job yields rows. Ours comes first; a rival that is not installed or does not fit into memory gets a row
that says so. The check of a row never uses the package: it computes in float64 from the weights.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import float64
import kernels
import machine
import numpy as np
import problems
import process
import rows as table
from contract import Answer, Method, Request, shot_rows, trial_weights
from rivals import RIVALS
from rows import Row

#: relative suboptimalities of logistic fits whose times are compared
TARGETS = (1e-2, 1e-3, 1e-4, 1e-5)
#: an estimated stop may miss its tolerance by this factor: then it has not reached it, beyond it is wrong
ESTIMATE_MISS = 4
#: tolerance of the fit that stands in for an optimum which float64 cannot reach in minutes
CERTIFIED = 1e-6
#: what float32 sums may add to an objective
ROUNDING = 1e-6
PROBE = ("coef", "intercept")
ERROR_ROWS = 100_000
FEW_LIMIT_S = 60.0  # the target for all of them
N_ALPHAS = 20
#: a rival is killed so long after its limit: imports, conversion, a last iteration
GRACE_S = 600.0
OUR_DEADLINE_S = 24 * 3600.0

Check = Callable[[Row, Answer], None]


@dataclass
class Context:
    """What a run is about."""

    size: str
    bank: str | None = None
    limit_s: float = 60.0
    repeats: int = 3
    threads: int = 0
    with_kernels: bool = True
    with_rivals: bool = True
    #: whether every method has a process of its own
    apart: bool = True
    ours: str = "ours"

    @cached_property
    def loaded(self) -> problems.Loaded:
        """The problem's arrays."""
        return problems.load(self.size, self.bank)

    @cached_property
    def ridge(self) -> float64.Ridge:
        """Ridge optima on raw features."""
        return float64.Ridge(float64.moments(self.loaded))

    def request(self, job: str, goal: str = "", **fields: object) -> Request:
        """A request of this run."""
        common = {k: getattr(self, k) for k in ("limit_s", "repeats", "threads", "bank")}
        return Request(**({"problem": self.size, "job": job, "goal": goal} | common | fields))  # type: ignore[arg-type]

    def errors(self, row: Row, answer: Answer) -> None:
        """Fill in both errors of the answer's probe."""
        p, coef, intercept = self.loaded, answer.arrays["coef"], answer.arrays["intercept"]
        row.train_error = float64.error(p.x[:ERROR_ROWS], p.y[:ERROR_ROWS], coef, intercept)
        row.test_error = float64.error(p.x_test, p.y_test, coef, intercept)


def each(context: Context, request: Request) -> Iterator[tuple[Row, Method, Answer | None]]:
    """Run every method of a request: its row, and the answer if there is one."""
    sizes = problems.load(request.problem, request.bank)
    for adapter in (context.ours, *RIVALS) if context.with_rivals else (context.ours,):
        module = importlib.import_module(adapter)
        for method in module.JOBS.get(request.job, ()):
            if method.goal not in ("", request.goal):
                continue
            threads = request.threads or len(os.sched_getaffinity(0))
            row = Row(request.job, request.goal, request.problem, method.name, threads)
            missing = [name for name in module.REQUIRES if importlib.util.find_spec(name) is None]
            needed, free = method.needs(len(sizes.x), sizes.d, sizes.k), machine.available_bytes()
            if missing:
                row.status, row.note = table.NOT_INSTALLED, f"no module {', '.join(missing)}"
                yield row, method, None
                continue
            if needed > 0.9 * free:
                row.note = f"needs about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"
                yield row, method, None
                continue
            if context.apart or getattr(module, "ALONE", False):
                deadline = OUR_DEADLINE_S if adapter == context.ours else request.limit_s + GRACE_S
                outcome = process.run(adapter, method.name, request, deadline)
            else:
                outcome = process.run_here(adapter, method.name, request)
            row.peak_mb, row.anonymous_mb = outcome.peak_mb, outcome.anonymous_mb
            row.other_cores = outcome.other_cores
            if outcome.answer is None:
                refused = "not run: " in outcome.error
                failed = table.FAIL if adapter == context.ours else table.ERROR
                row.status = table.NOT_RUN if refused else failed
                row.note = outcome.error.partition("not run: ")[2] if refused else outcome.error
            else:
                row.timed(outcome.answer.seconds)
                row.passes = outcome.answer.numbers.get("passes")
                row.note = "; ".join(outcome.answer.notes)
            yield row, method, outcome.answer


def checked(context: Context, request: Request, check: Check) -> Iterator[Row]:
    """Rows of a request whose answers `check` judges."""
    for row, _, answer in each(context, request):
        if answer is not None:
            check(row, answer)
        yield row


def kernel_rows(context: Context, job: str, wanted: Callable[[str], bool]) -> Iterator[Row]:
    """What the Rust example reports about one job."""
    if not context.with_kernels:
        return
    p = context.loaded
    n = min(len(p.x), 65_536)  # its rows are held in memory beside ours
    try:
        lines = kernels.run(n, p.d, p.k)
    except RuntimeError as error:
        yield Row(job, "kernels", context.size, "kernels example", 0, status=table.FAIL, note=str(error))
        return
    for line in lines:
        if not wanted(line["job"]):
            continue
        row = Row(job, f"kernel: {line['job']}", context.size, line["kernel"], int(line["threads"]))
        row.timed([float(line["seconds"])])
        extra = {k: v for k, v in line.items() if k not in ("job", "kernel", "threads", "seconds", "d", "k")}
        row.status, row.note = table.UNCHECKED, ", ".join(f"{k} {v}" for k, v in extra.items())
        yield row


def gram(context: Context) -> Iterator[Row]:
    """Second moments of all rows."""
    statistics = context.ridge.statistics
    exact = statistics.n * (statistics.covariance + np.outer(statistics.mean, statistics.mean))

    def check(row: Row, answer: Answer) -> None:
        if "gram" in answer.arrays:
            distance = np.linalg.norm(answer.arrays["gram"] - exact) / np.linalg.norm(exact)
            row.judge("Frobenius distance, relative", distance, 1e-2 if "bfloat16" in row.who else 1e-5)
        else:  # moments keep their matrix to themselves: a solution from it is judged
            alpha = answer.numbers["alpha"]
            best = context.ridge.optimum(alpha).objective
            row.judge("ridge suboptimality from it", _ridge_gap(context, answer, alpha, best), ROUNDING)

    yield from checked(context, context.request("gram", alpha=_ridge_alpha(context)), check)
    yield from kernel_rows(context, "gram", lambda name: name.startswith("gram"))


def _ridge_alpha(context: Context) -> float:
    """The problem's penalty in units of the mean variance."""
    return context.loaded.problem.ridge_alpha * context.ridge.statistics.mean_variance


def _ridge_gap(context: Context, answer: Answer, alpha: float, best: float) -> float:
    arrays = answer.arrays
    value = float64.ridge_objective(context.ridge.statistics, arrays["coef"], alpha, intercept=arrays["intercept"])
    return abs(value / best - 1)


def one_pass(context: Context) -> Iterator[Row]:
    """Forward, softmax and backward over all rows once."""
    p = context.loaded
    weights, intercept = trial_weights(p.d, p.k)
    loss, gradient = float64.pass_at(p, weights, intercept) if context.with_rivals else (0.0, weights)
    alpha = p.problem.logistic_alphas[0]

    def check(row: Row, answer: Answer) -> None:
        if "gradient" in answer.arrays:
            wrong = np.linalg.norm(answer.arrays["gradient"] - gradient) / np.linalg.norm(gradient)
            wrong = max(wrong, abs(answer.numbers["objective"] / loss - 1))
            row.judge("loss and gradient, relative", wrong, 3e-2 if "bfloat16" in row.who else 1e-4)
        else:
            exact = float64.logistic_objective(p, answer.arrays["coef"], answer.arrays["intercept"], alpha)
            wrong = abs(answer.numbers["objective"] / exact - 1)
            row.judge("objective reported, relative", wrong, 1e-3 if "bfloat16" in row.who else ROUNDING)

    yield from checked(context, context.request("pass", alpha=alpha), check)
    yield from kernel_rows(context, "pass", lambda name: not name.startswith("gram"))


def ridge(context: Context) -> Iterator[Row]:
    """One penalty; 20 penalties with a choice among them."""
    unit = context.ridge.statistics.mean_variance
    alpha = _ridge_alpha(context)
    best = context.ridge.optimum(alpha).objective

    def one(row: Row, answer: Answer) -> None:
        row.judge(
            "suboptimality", _ridge_gap(context, answer, alpha, best), 5e-3 if "bfloat16" in row.who else ROUNDING
        )
        context.errors(row, answer)

    yield from checked(context, context.request("ridge", "one penalty", alpha=alpha), one)

    alphas = tuple(float(a) for a in np.geomspace(2e-5, 1e1, N_ALPHAS) * unit)
    p, lowest = context.loaded, 1.0
    for a in alphas:
        optimum = context.ridge.optimum(a)
        lowest = min(lowest, float64.error(p.x_test, p.y_test, optimum.coef, optimum.intercept))

    def choice(row: Row, answer: Answer) -> None:
        chosen = answer.numbers["alpha"]
        context.errors(row, answer)
        if answer.numbers.get("rows", len(p.x)) < len(p.x):  # another problem: its own optimum is not known here
            row.judge("test error beyond the best on all rows", row.test_error - lowest, 0.2)  # type: ignore[operator]
            return
        gap = _ridge_gap(context, answer, chosen, context.ridge.optimum(chosen).objective)
        row.judge("suboptimality at the choice", gap, ROUNDING)
        slack = 3 * np.sqrt(lowest * (1 - lowest) / len(p.y_test))
        row.add(f"best test error of the grid {lowest:.4f}")
        if row.test_error > lowest + slack:  # type: ignore[operator]
            row.status = table.FAIL
            row.add("its choice is worse than that by more than three standard errors")

    yield from checked(context, context.request("ridge", "20 penalties", alphas=alphas), choice)


def logistic(context: Context) -> Iterator[Row]:
    """One penalty on raw features, to several accuracies."""
    for alpha in context.loaded.problem.logistic_alphas:
        yield from _logistic(context, alpha)


def _logistic(context: Context, alpha: float) -> Iterator[Row]:
    p, label = context.loaded, f"alpha {alpha:g}"
    targets = (*TARGETS, CERTIFIED)
    runs = list(each(context, context.request("logistic", label, alpha=alpha, targets=targets)))
    objectives: dict[tuple[int, str], float] = {}
    for i, (_, _, answer) in enumerate(runs):
        for prefix in _steps(answer):
            coef, intercept = answer.arrays[f"{prefix}coef"], answer.arrays[f"{prefix}intercept"]  # type: ignore[union-attr]
            objectives[i, prefix] = float64.logistic_objective(p, coef, intercept, alpha)
    best = min(objectives.values(), default=float("nan"))
    beside = "best value found"
    if objectives and float64.logistic_is_feasible(p):
        i, prefix = min(objectives, key=objectives.__getitem__)
        nearest = runs[i][2].arrays  # type: ignore[union-attr]
        start = None if p.x.size * p.k < float64.QUICK_PRODUCTS else tuple(nearest[f"{prefix}{k}"] for k in PROBE)
        optimum = float64.logistic(p, alpha, start=start)  # type: ignore[arg-type]
        best = min(best, optimum.objective)
        if optimum.decrement <= float64.GOOD_DECREMENT:
            beside = "float64 optimum"
    for i, (row, _, answer) in enumerate(runs):
        if answer is None:
            yield row
        elif "step_0_seconds" in answer.numbers:
            row.add(f"beside the {beside}")
            yield from _own_steps(
                context, row, answer, targets, {k: v / best - 1 for (j, k), v in objectives.items() if i == j}
            )
        else:
            row.add(f"beside the {beside}")
            yield from _rival_steps(context, row, answer, best, objectives[i, ""])


def _steps(answer: Answer | None) -> list[str]:
    """Prefixes of the weights in an answer."""
    return [] if answer is None else [name[: -len("coef")] for name in answer.arrays if name.endswith("coef")]


def _own_steps(
    context: Context, row: Row, answer: Answer, targets: tuple[float, ...], gaps: dict[str, float]
) -> Iterator[Row]:
    for i, target in enumerate(targets):
        step = replace(row, goal=f"{row.goal} to {target:g}")
        if f"step_{i}_seconds" not in answer.numbers:
            step.seconds_min = step.seconds_median = step.seconds_max = None
            yield step
            continue
        step.timed([answer.numbers[f"step_{i}_seconds"]])
        step.passes = answer.numbers[f"step_{i}_passes"]
        gap, bound = gaps[f"step_{i}_"], answer.numbers[f"step_{i}_gap"]
        certified = bool(answer.numbers[f"step_{i}_certified"])
        step.judge("suboptimality", gap, target + ROUNDING)
        if not certified and target + ROUNDING < gap <= ESTIMATE_MISS * target:
            step.status = table.NOT_REACHED
        step.add(f"bound {bound:.1e}, {'certified' if certified else 'estimated or stopped'}")
        if bound < gap - ROUNDING:
            step.status = table.FAIL
            step.add("the bound is below the gap")
        arrays = {k: answer.arrays[f"step_{i}_{k}"] for k in PROBE}
        context.errors(step, replace(answer, arrays=arrays))
        yield step


def _rival_steps(context: Context, row: Row, answer: Answer, best: float, objective: float) -> Iterator[Row]:
    for target in TARGETS:
        step = replace(row, goal=f"{row.goal} to {target:g}", measure="suboptimality", tolerance=target)
        points = answer.trajectory
        reached = next((i for i, (_, f) in enumerate(points, start=1) if f <= best * (1 + target)), None)
        if reached is not None:
            seconds, reached_objective = points[reached - 1]
            step.timed([seconds])
            # some look at the objective every few passes
            step.passes = reached / len(points) * answer.numbers["passes"]
            step.value, step.status = reached_objective / best - 1, table.OK
        else:
            step.value, step.status = objective / best - 1, table.NOT_REACHED
        yield step
    end = replace(row, goal=f"{row.goal}, end", value=objective / best - 1, measure="suboptimality")
    context.errors(end, answer)
    # their own objective must be ours: otherwise their times mean nothing
    wrong = min((abs(f / objective - 1) for _, f in answer.trajectory), default=float("nan"))
    loose = 5e-2 if "bfloat16" in row.who or "SGD" in row.who else 2e-2
    end.status = table.OK if wrong <= loose else table.FAIL
    end.add(f"its own objective differs by {wrong:.0e}")
    yield end


def risks(context: Context, probe: str) -> Iterator[Row]:
    """A whole decomposition."""
    p = context.loaded

    def check(row: Row, answer: Answer) -> None:
        numbers = answer.numbers
        row.train_error, row.test_error = numbers["risk_af"], numbers["risk_us"]
        se = max(np.sqrt(row.test_error * (1 - row.test_error) / len(p.y_test)), 1 / len(p.y_test))
        row.add(f"{numbers['certified']:.0f} certified")
        optimum = None
        if probe == "ridge":
            path = float64.Ridge(context.ridge.statistics, standardize=True)
            optimum, floor = path.optimum(numbers["alpha"]), path.optimum(numbers["floor"])
            af = float64.error(p.x, p.y, floor.coef, floor.intercept)
            row.add(f"risk_af differs by {abs(af - row.train_error):.1e}")
        elif float64.logistic_is_feasible(p):
            optimum = float64.logistic(p, numbers["alpha"], standardize=True, start=_near(p, numbers["alpha"]))
            if optimum.decrement > float64.GOOD_DECREMENT:
                row.add("float64 did not reach an optimum in time")
                optimum = None
        if optimum is None and not numbers["certified"]:  # fits that ended by estimates: a bound, and no proof
            row.measure, row.value, row.status = "largest bound, none certified", numbers["worst_bound"], table.OK
        elif optimum is None:
            row.judge("largest certified gap", numbers["worst_gap"], max(numbers["tol"], 1e-3))
        else:
            exact = float64.error(p.x_test, p.y_test, optimum.coef, optimum.intercept)
            row.judge("risk_us beside float64, in se", abs(exact - row.test_error) / se, 0.5)
        if probe == "ridge" and abs(af - row.train_error) > 5e-4:
            row.status = table.FAIL
        for wrong, what in (
            (abs(numbers["sum"] - numbers["risk_us"]) > 1e-9, "the components do not sum to the risk"),
            (not numbers["converged"], "a fit missed its tolerance"),
        ):
            if wrong:
                row.status = table.FAIL
                row.add(what)

    yield from checked(context, context.request(f"{probe}-risks", probe), check)


def _near(p: problems.Loaded, alpha: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Where float64 begins its search on standardized features, if that takes long from zero."""
    if p.x.size * p.k < float64.QUICK_PRODUCTS:
        return None
    from ssl_risk_rs import LogisticProbe

    probe = LogisticProbe(alpha, scaling="standardize", tol=CERTIFIED, max_passes=1000).fit(p.x, p.y)
    return probe.coef_, probe.intercept_


def few(context: Context) -> Iterator[Row]:
    """Many ridge fits on five rows of each class, fewer rows than features."""
    name = "few-smoke" if context.size == "smoke" else "few"
    p = problems.load(name)
    request = context.request(
        "few",
        "5 shots",
        problem=name,
        alpha=0.1,
        shots=5,
        n_fits=20 if name == "few-smoke" else 1000,
        limit_s=max(FEW_LIMIT_S, context.limit_s),
    )
    picked = shot_rows(p.y, request.shots, 0)
    path = float64.Ridge(float64.moments_of(p.x[picked], p.y[picked], p.k))
    best = path.optimum(request.alpha).objective

    def check(row: Row, answer: Answer) -> None:
        row.units, arrays = answer.numbers["fits"], answer.arrays
        value = float64.ridge_objective(path.statistics, arrays["coef"], request.alpha, intercept=arrays["intercept"])
        row.judge("suboptimality of the first fit", abs(value / best - 1), 1e-5)
        row.test_error = float64.error(p.x_test, p.y_test, arrays["coef"], arrays["intercept"])
        row.add(f"{row.units:.0f} of {request.n_fits} fits; the ratio is for one")
        if row.units < request.n_fits and row.status == table.OK:
            row.status = table.CUT_OFF

    yield from checked(context, request, check)


def threads(context: Context) -> Iterator[Row]:
    """A ridge fit and a pass on one thread and on all."""
    quiet = replace(context, with_kernels=False, with_rivals=False)
    quiet.__dict__.update({k: v for k, v in context.__dict__.items() if k in ("loaded", "ridge")})  # not again
    alone: dict[str, float] = {}
    for count in sorted({1, len(os.sched_getaffinity(0))}):
        quiet.threads = count
        for job in (ridge, one_pass):
            for row in job(quiet):
                if row.goal not in ("", "one penalty"):
                    continue
                goal = f"{row.job} {row.who.removeprefix('ours').strip()}".strip()
                if row.seconds_median:
                    first = alone.setdefault(goal, row.seconds_median)
                    row.add(f"{first / row.seconds_median:.2f} times as fast as on one thread")
                yield replace(row, job="threads", goal=goal, who=f"ours, threads: {count}")


def scaling(context: Context) -> Iterator[Row]:
    """Cost against n, d and k, with the exponents of a least-squares line through the logarithms."""
    size = "iterate" if context.size == "full" else context.size
    request = replace(context.request("scaling", alpha=1e-3), problem=size, repeats=min(2, context.repeats))
    for row, _, answer in each(context, request):
        if answer is None:
            yield row
            continue
        points: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for name, seconds in answer.numbers.items():
            kind, axis, at = name.split("|")
            if kind == "error":
                continue
            points.setdefault((kind, axis), []).append((float(at), seconds))
            point = replace(row, goal=f"{kind} {axis} = {at}", seconds_median=seconds, repeats=request.repeats)
            point.seconds_min, point.seconds_max = seconds, None
            point.judge("objective reported, relative", answer.numbers[f"error|{axis}|{at}"], 5 * ROUNDING)
            yield point
        for (kind, axis), measured in points.items():
            exponent = float(np.polyfit(*np.log(np.array(measured)).T, 1)[0]) if len(measured) > 1 else float("nan")
            yield Row("scaling", f"{kind} exponent of {axis}", size, "ours", row.threads, measure="exponent",
                      value=exponent, status=table.OK)  # fmt: skip


JOBS: dict[str, Callable[[Context], Iterator[Row]]] = {
    "gram": gram,
    "pass": one_pass,
    "ridge": ridge,
    "logistic": logistic,
    "ridge-risks": lambda context: risks(context, "ridge"),
    "logistic-risks": lambda context: risks(context, "logistic"),
    "few": few,
    "threads": threads,
    "scaling": scaling,
}
