"""The three magics as methods: a line and a cell in; names, a report and ``Out[n]`` out."""

from __future__ import annotations

from functools import partial
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.display import display
from traitlets import Bool, Float, Instance, Int, Unicode, observe

from tape_magic.engine.api.defaults import DERIVATIVE_LIMIT
from tape_magic.magics.cell.cache import CellCache
from tape_magic.magics.errors import compiled_cell, in_one_line, interruptible
from tape_magic.magics.first_line import continued, refusal
from tape_magic.magics.line.fractions import leading_on
from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.magics.line.resolve import minimize_settings, request_arguments, resolved
from tape_magic.magics.line.tfgpu import TFGPU


@magics_class
class TapeMagics(Magics):
    """The magics and their defaults, which ``%config TapeMagics`` shows and sets."""

    shell: Any
    _cache: Any = None
    _kept = Instance(CellCache, ())
    _watch: Any = None

    grads_name = Unicode("grads", help="The name of %%grad's report, where the line has no -o.").tag(
        config=True
    )
    minimum_name = Unicode("minimum", help="The name of %%minimize's report, where the line has no -o.").tag(
        config=True
    )
    derivative_limit = Int(
        DERIVATIVE_LIMIT, min=1, help="The largest Jacobian or Hessian that %%grad computes, in bytes."
    ).tag(config=True)
    progress = Unicode(
        "auto", help="How a run is shown: 'widget', 'terminal', 'none', or 'auto' for whichever fits."
    ).tag(config=True)
    quiet_tensorflow = Bool(
        True,
        help="Whether TensorFlow's own log lines are kept back; set it before %load_ext for all of them.",
    ).tag(config=True)
    first_line = Bool(
        True, help="Whether %grad and %minimize as the first line of a cell are cell magics; for %load_ext."
    ).tag(config=True)
    watch_minutes = Float(60.0, min=0.0, help="How long %tfgpu --watch goes on, in minutes.").tag(config=True)

    @no_var_expand
    @cell_magic
    @interruptible
    def grad(self, line: str, cell: str) -> Any:
        line, cell = continued(line, cell)
        if GRAD.asks_for_help(line):
            print(GRAD.help)
            return None
        with (
            compiled_cell(self.shell, cell, GRAD, self._kept) as compiled,
            leading_on(line, compiled.names.assigns, self.shell.user_ns),
        ):
            options = GRAD.parse(line)
            from tape_magic.engine.api.derivative import derivative_program
            from tape_magic.engine.api.grad import grad_program
            from tape_magic.magics.quiet_display import no_displays

            namespace = self.shell.user_ns
            request = {**request_arguments(self.shell, options), "limit": self.derivative_limit}
            if options.define is not None:
                made = derivative_program(compiled, namespace, options.define, **request)
                namespace[options.define] = made
                return None
            done = grad_program(
                compiled,
                namespace,
                check=options.check,
                silence=partial(no_displays, self.shell),
                **request,
            )
            if options.inspect and not options.quiet:
                done.report.inspect()  # it may be refused, and then no name is bound
            namespace.update({**done.bindings, options.name or self.grads_name: done.report})
            if not options.inspect and not options.quiet:
                display(done.report)
            return None if compiled.silenced else done.value

    @no_var_expand
    @cell_magic
    @interruptible
    def minimize(self, line: str, cell: str) -> Any:
        line, cell = continued(line, cell)
        if MINIMIZE.asks_for_help(line):
            print(MINIMIZE.help)
            return None
        with compiled_cell(self.shell, cell, MINIMIZE, self._kept) as compiled:
            options = MINIMIZE.parse(line)
            from tape_magic.engine.api.loading import require_tensorflow
            from tape_magic.engine.api.minimize import MinimizeInterrupted, follows, minimize_program
            from tape_magic.magics.front_end import front_end

            require_tensorflow()
            namespace = self.shell.user_ns
            remarks = compiled.run_preamble(namespace)
            settings = minimize_settings(self.shell, options, remarks)
            name = options.name or self.minimum_name
            quiet = options.quiet or follows(settings)  # of several workers, one shows the run
            with front_end(self.shell, "none" if quiet else self.progress) as progress:
                try:
                    done = minimize_program(
                        compiled,
                        namespace,
                        options.loss_name,
                        options.over,
                        settings,
                        on_progress=progress.update,
                        on_wait=progress.update,
                        wish=progress.wish,
                        cache=self._loops,
                    )
                except MinimizeInterrupted as interrupted:
                    namespace[name] = interrupted.result
                    if not quiet:
                        progress.finish(interrupted.result, at_once=True)
                    # No subclass: front ends look at the name of the exception's class.
                    raise KeyboardInterrupt(str(interrupted)) from None
                if settings.lr != "find" or options.name:  # a range test leaves the report of a run
                    namespace[name] = done.result
                if not quiet:
                    progress.finish(done.result)
            return None if compiled.silenced else done.value

    @no_var_expand
    @line_magic
    @interruptible
    def tfgpu(self, line: str) -> None:
        if TFGPU.asks_for_help(line):
            print(TFGPU.help)
            return
        with in_one_line(TFGPU):
            options = TFGPU.parse(line)
            from tape_magic.magics import watching

            if options.watch:
                self.stop_watching()
                self._watch = watching.watch(
                    self.shell, self.progress, 60 * self.watch_minutes, self.stop_watching
                )
                return
            report = watching.report(options, resolved(self.shell, TFGPU, options.arguments))
            if options.name:
                self.shell.user_ns[options.name] = report
            if options.json:
                print(report.to_json())
            elif not options.quiet:
                display(report)

    @observe("quiet_tensorflow")
    def _say_whether_quiet(self, change: Any) -> None:
        from tape_magic.engine.internals.log_level import allow_quiet

        allow_quiet(change.new)

    def no_magic(self, written: str) -> None:
        """Refuse a magic that does not exist, with the one that is meant."""
        raise UsageError(str(refusal(written)))

    def stop_watching(self) -> None:
        """End the picture of ``%tfgpu --watch``, where there is one."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    @property
    def _loops(self) -> Any:
        """The compiled loops of the cells that were run, for their next run."""
        if self._cache is None:
            from tape_magic.engine.api.minimize import new_loop_cache

            self._cache = new_loop_cache()
        return self._cache


for _magic in (GRAD, MINIMIZE, TFGPU):
    getattr(TapeMagics, _magic.name).__doc__ = _magic.help
