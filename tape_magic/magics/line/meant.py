"""What other libraries call the options of the magics, without hyphens, and what to write here instead."""

from __future__ import annotations

from collections.abc import Mapping


def _by_word(options: Mapping[str, str]) -> dict[str, str]:
    """Return the option of each word, of options with their words."""
    return {word: option for option, words in options.items() for word in words.split()}


COMMON = _by_word(
    {
        "-o": "name output out result report saveas as",
        "-q": "quiet silent v verbose verbosity noverbose noprogress nodisplay noshow hide disp display",
    }
)
"""What other libraries call the options that all magics have → what to write here."""

MEANT_BY_MINIMIZE = _by_word(
    {
        "--over": "wrt var vars variable variables param params parameter parameters weights argnums",
        "--optimizer": "method opt solver algorithm algo optim optimiser",
        "--lr": "learningrate rate eta stepsize alpha learning",
        "--steps": "maxiter maxiters maxit niter niters iter iters iterations maxiterations maxsteps nsteps "
        "numsteps nits nit n step numiterations itermax",
        "--epochs": "epoch numepochs nepochs nepoch passes",
        "--batch": "batchsize bs minibatch batches",
        "--tol": "ftol xtol atol rtol eps epsilon tolerance threshold converge",
        "--val": "validation validationdata validationset validationsplit valdata valid validate holdout "
        "testdata evaldata",
        '--val "xb, yb in valid" --patience 5': "earlystopping earlystop",
        "--gtol": "gradtol gradienttol pgtol gnorm",
        "--target": "ftarget targetloss goal until fatol stopat",
        "--time": "timeout maxtime timelimit seconds duration budget",
        "--for": "data dataset train dataloader loader ds traindata in each",
        "--log": "tensorboard tb logdir mlflow trackio wandb summary writer",
        "--track": "metrics metric record watch monitor also history",
        "--bounds": "bound limits limit range box constraints constraint lb ub low high min max clipvalues",
        "--keep best": "restorebest best restorebestweights savebest keepbest",
        "--resume": "continue restart warmstart goon",
        "--checkpoint": "save savedir dir ckpt folder",
        "--seed": "randomseed randomstate rng rngseed",
        "--engine xla": "jit xla jitcompile compile",
        "--engine eager": "eager runeagerly noeager nograph nocompile debug",
        "%%minimize loss": "loss objective fun function func cost",
        "--clip": "clipnorm clipgrad gradclip globalclipnorm clipgradnorm maxnorm maxgradnorm",
        '--optimizer "adam(0.001, clipvalue=1.0)"': "clipvalue",
        '--optimizer "sgd(0.01, momentum=0.9)"': "momentum nesterov",
        '--optimizer "adam(0.001, beta_1=0.9)"': "beta1 beta2 betas amsgrad",
        "--checkpoint or --log": "callbacks callback",
        "--strategy mirrored": "parallel multigpu distributed ngpus ngpu njobs",
        "--strategy workers": "workers multiworker multinode",
        '--optimizer "adamw(0.001, weight_decay=0.01)"': "weightdecay decay wd l2",
        "--schedule": "scheduler lrschedule lrscheduler lrdecay annealing warmup",
        "--lr find": "lrfind lrfinder findlr rangetest",
        "neg = -loss in the cell, and %%minimize neg": "maximize maximise maximum imize ascent argmax",
        "the start into the variable, x.assign(1.0), above the cell": "x0 init initial start guess",
        "%tfgpu 0 in a cell above": "device gpu cuda",
        "minimum.plot() in the next cell": "plot show graph",
        "nothing, since arrays are shuffled": "shuffle",
    }
)
"""What other libraries call the options, without hyphens → what to write here."""

MEANT_BY_GRAD = _by_word(
    {
        "--wrt": "over by var vars variable variables param params parameter parameters weights argnum "
        "argnums source sources input inputs x",
        "--jacobian": "jac",
        "--hessian": "hess",
        "--hvp": "hessianvectorproduct",
        "--jvp": "forward forwardmode",
        "--vjp": "backward reverse reversemode outputgradients",
        "--zero": "zeros unconnectedgradients",
        "--check": "checkgrad gradcheck gradientcheck verify numerical numeric",
        "--per-example": "persample perexamplegradients",
        "--def": "function compile",
        "x = 1.0 in the cell, and the derivative is taken there": "at point subs where evaluate",
        "grads.plot() in the next cell": "plot show",
        "print(grads) in the next cell": "print",
    }
)
"""What ``%%minimize`` and other libraries call the options → what to write here."""

MEANT_BY_TFGPU = _by_word(
    {
        "--growth": "memorygrowth allowgrowth grow setmemorygrowth",
        "--limit": "memory memorylimit mem maxmemory fraction memoryfraction",
        "--cpu": "nogpu hide off disable cpuonly none",
        "%tfgpu alone, which shows the devices": "list status info version l show available",
        "no index, and all are used": "all every any on enable auto",
        "no value behind a switch": "true false yes no",
        "--reset-peak": "reset",
        "freest": "free best",
        "--precision mixed_float16": "fp16 half amp",
        "--precision mixed_bfloat16": "bf16",
        "--precision": "mixed mixedprecision policy dtype",
        "--deterministic": "determinism opdeterminism reproducible",
        "--doctor": "diagnose check debug why test",
        "--placement": "logdeviceplacement logplacement",
        "--split": "logical virtual",
        "--workers": "cluster nodes hosts machines clusterspec tfconfig addresses",
        "--worker": "rank task taskindex taskid workerindex",
        "--wait": "timeout",
        "%tfgpu 0": "gpu gpus cuda device devices index visible first",
    }
)
"""What TensorFlow and others call the options → what to write here."""
