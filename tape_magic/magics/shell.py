"""The three magics: a line and a cell in; names, a report and ``Out[n]`` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.display import display
from traitlets import Float, Instance, Int, Unicode

from tape_magic.display.widths import clean
from tape_magic.engine.request import LIMIT
from tape_magic.errors import LineError, TapeMagicError
from tape_magic.magics.cell import Cell, CellSyntaxError
from tape_magic.magics.minimize_line import MinimizeOptions
from tape_magic.magics.options import GRAD, MINIMIZE, TFGPU, GradOptions
from tape_magic.magics.prepared import Kept
from tape_magic.notation import shorten

_MOST = 1000
"""The characters of a message: what is said, and the beginning of what was given."""


@magics_class
class TapeMagics(Magics):
    """The magics, and their defaults: ``%config TapeMagics`` shows and sets them."""

    shell: Any
    _cache: Any = None
    _kept = Instance(Kept, ())
    _watch: Any = None

    grads_name = Unicode("grads", help="What the report of %%grad is bound to, without -o.").tag(config=True)
    minimum_name = Unicode("minimum", help="What the report of %%minimize is bound to, without -o.").tag(
        config=True
    )
    derivative_limit = Int(
        LIMIT, min=1, help="The largest Jacobian or Hessian that %%grad computes, in bytes."
    ).tag(config=True)
    progress = Unicode(
        "auto", help="How a run is shown: 'widget', 'terminal' or 'none'; 'auto' finds out."
    ).tag(config=True)
    watch_minutes = Float(60.0, min=0.0, help="How long %tfgpu --watch goes on, in minutes.").tag(config=True)

    @no_var_expand
    @cell_magic
    def grad(self, line: str, cell: str) -> Any:
        with self._errors(cell, GRAD.name) as compiled:
            options = GRAD.parse(line)
            from tape_magic.engine.define import define
            from tape_magic.engine.importing import load_tensorflow
            from tape_magic.engine.request import Request
            from tape_magic.engine.tape import differentiate

            load_tensorflow()
            namespace = self.shell.user_ns
            request = Request(
                options.targets,
                options.wrt,
                options.order or 1,
                options.kind,
                self._vectors(options),
                dict(options.vectors),
                options.zero,
                self.derivative_limit,
            )
            if options.define is not None:
                namespace[options.define] = define(compiled, namespace, request, options.define)
                return None
            if options.check:
                from tape_magic.engine.check import checked
                from tape_magic.magics.no_displays import no_displays

                done = checked(compiled, namespace, request, partial(no_displays, self.shell))
            else:
                done = differentiate(compiled, namespace, request)
            if options.inspect and not options.quiet:
                done.report.inspect()  # may be refused: then nothing is bound
            namespace.update({**done.bindings, options.name or self.grads_name: done.report})
            if not options.inspect and not options.quiet:
                display(done.report)
            return None if compiled.silenced else done.value

    @no_var_expand
    @cell_magic
    def minimize(self, line: str, cell: str) -> Any:
        with self._errors(cell, MINIMIZE.name) as compiled:
            options = MINIMIZE.parse(line)
            from tape_magic.engine.importing import load_tensorflow
            from tape_magic.engine.minimize import MinimizeInterrupted, run
            from tape_magic.magics.front_end import front_end

            load_tensorflow()
            namespace = self.shell.user_ns
            remarks = compiled.run_preamble(namespace)
            settings = self._settings(options, remarks)
            name = options.name or self.minimum_name
            loss = options.loss[0] if options.loss else None
            with front_end(self.shell, "none" if options.quiet else self.progress) as progress:
                try:
                    done = run(
                        compiled,
                        namespace,
                        loss,
                        options.over,
                        settings,
                        progress.update,
                        self._loops,
                        progress.wish,
                        progress.update,
                    )
                except MinimizeInterrupted as interrupted:
                    namespace[name] = interrupted.result
                    if not options.quiet:
                        progress.finish(interrupted.result)
                    # Exactly that: front ends go by the name of what was raised.
                    raise KeyboardInterrupt(str(interrupted)) from None
                namespace[name] = done.result
                if not options.quiet:
                    progress.finish(done.result)
            return None if compiled.silenced else done.value

    @no_var_expand
    @line_magic
    def tfgpu(self, line: str) -> None:
        with _in_one_line(f"%{TFGPU.name}"):
            options = TFGPU.parse(line)
            from tape_magic.magics import tfgpu

            if options.watch:
                self.stop_watching()
                self._watch = tfgpu.watch(
                    self.shell, self.progress, 60 * self.watch_minutes, self.stop_watching
                )
                return
            report = tfgpu.report(options)
            if options.name:
                self.shell.user_ns[options.name] = report
            if options.json:
                print(report.to_json())
            elif not options.quiet:
                display(report)

    def stop_watching(self) -> None:
        """End the picture of `%tfgpu --watch`, if there is one."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _settings(self, options: MinimizeOptions, remarks: tuple[str, ...]) -> Any:
        """What the line asks for, as the engine takes it."""
        from tape_magic.engine.settings import Settings

        bounds: dict[str, Any] = {
            name: tuple(
                self._evaluated(text, f"--bounds {name}={low}:{high}") if text else None
                for text in (low, high)
            )
            for name, low, high in options.bounds or ()
        }
        return Settings(
            optimizer=self._optimizer(options),
            made_here=not options.optimizer.isidentifier(),
            lr=options.lr,
            steps=options.steps,
            engine=options.engine,
            seed=options.seed,
            tol=options.tol,
            gtol=options.gtol,
            target=options.target,
            patience=options.patience,
            time=options.time,
            track=options.track or (),
            bounds=bounds,
            keep=options.keep,
            resume=options.resume,
            checkpoint=options.checkpoint,
            remarks=remarks,
            **self._data(options),
        )

    def _data(self, options: MinimizeOptions) -> dict[str, Any]:
        """The data that the line names, and what a batch of them is bound to."""
        given = {"batch": options.batch, "epochs": options.epochs}
        if options.data is None:
            return given
        names, text = options.data.names, options.data.data
        data = self._evaluated(text, f"--for {', '.join(names)} in {text}")
        return {"data": data, "names": names, "label": text, **given}

    @property
    def _loops(self) -> Any:
        """The compiled loops that wait for a cell to be run again."""
        if self._cache is None:
            from tape_magic.engine.loop_cache import LoopCache

            self._cache = LoopCache()
        return self._cache

    def _optimizer(self, options: MinimizeOptions) -> Any:
        """The optimizer that the line means: an object of the notebook before a Keras name or a method."""
        from tape_magic.engine.optimizers import is_optimizer, is_optimizer_class

        text = options.optimizer
        words = text.split("-")
        known = all(word in self.shell.user_ns for word in words)
        if len(words) > 1 and all(word.isidentifier() for word in words) and not known:
            return text  # a difference of names that there are not: SciPy's l-bfgs-b, or meant as one
        if text.isidentifier():
            value = self.shell.user_ns.get(text)
            return value if is_optimizer(value) or is_optimizer_class(value) else text
        return self._evaluated(text, f"--optimizer {text}")

    def _vectors(self, options: GradOptions) -> dict[str, Any]:
        """The vectors that the line gives to a product, by their sources."""
        flag = f"--{options.kind.value}"
        return {name: self._evaluated(text, f"{flag} {name}={text}") for name, text in options.vectors}

    def _evaluated(self, text: str, written: str) -> Any:
        """An expression of the notebook. Raises :class:`LineError`, by what was `written` on the line."""
        try:
            return eval(text, self.shell.user_global_ns, self.shell.user_ns)
        except Exception as error:
            raise LineError(f"{shorten(written)}: {_said(error)}") from None

    @contextmanager
    def _errors(self, body: str, magic: str) -> Iterator[Cell]:
        """Compile the cell; show its errors as the cell's own, and ours as one line.

        After an error of ours, the names that the cell may bind are as they were before; others may be
        bound by another thread meanwhile.
        """
        namespace = self.shell.user_ns
        before = dict(namespace)
        compiled: Cell | None = None

        def is_the_cells(error: Exception) -> bool:
            """Whether an error is the cell's own, which then shows the cell's lines only."""
            if isinstance(error, CellSyntaxError):
                lines = self.shell.SyntaxTB.structured_traceback(SyntaxError, error.error, [])
                _shown_as(error, lambda: lines)
                return True
            traceback = compiled.own_traceback(error) if compiled else None
            if traceback is not None:
                render = self.shell.InteractiveTB.structured_traceback
                _shown_as(error, lambda: render(type(error), error, traceback, tb_offset=0))
            return traceback is not None

        with _in_one_line(f"%%{magic}", is_the_cells):
            try:
                compiled = Cell(self.shell, body, magic, self._kept)
                yield compiled
            except TapeMagicError:
                if compiled is not None:
                    _put_back(namespace, before, compiled)
                raise


@contextmanager
def _in_one_line(magic: str, is_the_users: Callable[[Exception], bool] = lambda _: False) -> Iterator[None]:
    """Show what a magic raises as one line, but for errors that are the user's own."""
    try:
        yield
    except TapeMagicError as error:
        raise _usage_error(error) from None
    except KeyboardInterrupt as error:
        _shown_in_one_line(error)
        raise
    except UsageError:
        raise
    except Exception as error:
        if is_the_users(error):
            raise
        if _interrupted(error):
            interrupt = KeyboardInterrupt()
            _shown_in_one_line(interrupt)
            raise interrupt from None
        # TensorFlow or the system refused what the magic asked of it.
        raise UsageError(_one_line(f"{magic} failed: {_said(error)}")) from error


def _put_back(namespace: dict[str, Any], before: dict[str, Any], cell: Cell) -> None:
    """Those names that a cell may have bound, as they were before it."""
    names = cell.names
    for name in {*namespace, *before} if names.may_bind_any else {*names.reads, *names.assigns}:
        if name in before:
            namespace[name] = before[name]
        else:
            namespace.pop(name, None)


def _usage_error(error: TapeMagicError) -> UsageError:
    """Ours as IPython's own, which it shows in one line; a subclass it would show with a traceback."""
    return UsageError(_one_line(str(error)))


def _one_line(text: str) -> str:
    """Names and texts of the user's, and so anything, as a line that can be shown."""
    return shorten(clean(text), _MOST)


def _interrupted(error: BaseException | None) -> bool:
    """Whether an interrupt is behind it, which a library's tidying up then failed over."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _said(error: BaseException) -> str:
    """The kind of an exception of the user's, and the first line of what it says if it can say anything."""
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _shown_in_one_line(error: BaseException) -> None:
    line = _said(error)
    _shown_as(error, lambda: [line])


def _shown_as(error: BaseException, render: Callable[[], list[str]]) -> None:
    """Have IPython show an exception by `render`, without the frames of this package."""

    def rendered() -> list[str]:
        try:
            return render()
        except KeyboardInterrupt:  # pressed while the cell's lines were looked for
            return [_said(error)]

    try:
        error._render_traceback_ = rendered  # type: ignore[attr-defined]
    except AttributeError:
        return  # a class with slots: IPython then shows every frame


for _magic in (GRAD, MINIMIZE, TFGPU):
    getattr(TapeMagics, _magic.name).__doc__ = _magic.help
