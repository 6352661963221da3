"""How tests drive a notebook in the browser: open it, run it, find an explorer, move its sliders by keyboard."""

from __future__ import annotations

import json
from typing import Any

WAITING = "[...document.querySelectorAll('.jp-InputPrompt')].some(node => node.textContent.includes('*'))"

READY = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return session?.isReady && session.kernelDisplayStatus === 'idle';
}"""


def open_notebook(page: Any, address: str) -> None:
    """Opens it, and waits until the page itself has its kernel: the server knows of the session, and the page shows an idle
    notebook, some time before, and Run All is lost then."""
    page.goto(address)
    page.locator(".jp-Notebook").wait_for()
    page.wait_for_function(READY)
    if "/lab/" in address:
        page.keyboard.press("Control+b")  # the file browser takes room


def run_all(page: Any) -> None:
    """Run > Run All Cells, until a prompt shows [*]."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.wait_for_function(f"() => {WAITING}")


CODE = "window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model).filter(m => m.type === 'code')"


def run_to_the_end(page: Any) -> None:
    """Run All, until JupyterLab knows of every cell, in view or not, that it has run."""
    run_all(page)
    page.wait_for_function(f"() => {CODE}.every(cell => cell.executionState === 'idle')", timeout=300_000, polling=200)
    stuck = page.evaluate(f"() => {CODE}.filter(cell => !cell.executionCount).map(cell => cell.sharedModel.source)")
    assert not stuck, f"these cells did not run, the one before them failed: {stuck}"
    page.get_by_text("| Idle").wait_for()


def explorer(page: Any, title: str) -> Any:
    """The live explorer (not its static picture) that has a control of this name."""
    found = page.locator(".jp-OutputArea-output .widget-vbox").filter(has_text=title).first
    found.wait_for()
    found.scroll_into_view_if_needed()
    found.locator(".js-plotly-plot").wait_for()
    return found


def scroll_to(page: Any, top: int) -> None:
    """JupyterLab draws only the cells in view."""
    page.locator(".jp-WindowedPanel-outer").evaluate("(node, top) => node.scrollTo(0, top)", top)
    page.wait_for_timeout(500)


def as_wide_as_the_page(page: Any, found: Any) -> None:
    """Looks for the figure anew each time: JupyterLab may make its node anew when the cell comes into view."""
    figure = found.locator(".js-plotly-plot")
    for _ in range(600):
        if (width := figure.evaluate("node => node._fullLayout?.width")) and width > 900:
            return
        page.wait_for_timeout(300)
    raise AssertionError(f"the figure stays {width} pixels wide")


def trace(mark: str) -> str:
    """In the browser: the trace of this mark of `node`."""
    return f"node._fullData.find(one => one.meta === '{mark}')"


def drawn(found: Any, mark: str) -> list[float]:
    """The y values (bars: x) of one mark of the live figure, as the browser holds them."""
    values = found.locator(".js-plotly-plot").evaluate(
        f"node => {{ const d = {trace(mark)}; return Array.from(d.orientation === 'h' ? d.x : d.y) }}"
    )
    assert isinstance(values, list)
    return values


def wait_until(found: Any, condition: str) -> None:
    """Waits until this holds of the live figure's `node`."""
    figure = found.locator(".js-plotly-plot").element_handle()
    found.page.wait_for_function(f"node => {condition}", arg=figure)


def changed(found: Any, mark: str, old: list[Any], values: str = "y") -> None:
    """Waits until the browser holds other values of this mark."""
    now = f"Array.from({trace(mark)}.{values}, row => row?.length === undefined ? row : Array.from(row))"
    wait_until(found, f"JSON.stringify({now}) !== JSON.stringify({json.dumps(old)})")


def listen(found: Any) -> None:
    """Keeps all that the explorer says from now on: what stands there shortly is missed by looking now and then."""
    found.evaluate(
        """node => { node.said = []; const hear = () => node.said.push(node.querySelector('[role=status]')?.innerText);
            new MutationObserver(hear).observe(node, {subtree: true, childList: true, characterData: true}) }"""
    )


def heard(found: Any, pattern: str) -> None:
    """Waits until the explorer has said this since `listen`, maybe shortly."""
    has = "([node, pattern]) => node.said.some(text => new RegExp(pattern).test(text))"
    found.page.wait_for_function(has, arg=[found.element_handle(), pattern])


def message(found: Any) -> Any:
    return found.locator("[role=status]")


def step(found: Any, label: str, key: str, presses: int = 1) -> None:
    """Moves a slider by keyboard, as somebody without a mouse would."""
    handle = found.locator(".widget-hslider").filter(has_text=label).locator("[role=slider], .noUi-handle").first
    handle.focus()
    for _ in range(presses):
        handle.press(key)


def predict(page: Any, question: str, option: str) -> None:
    """Chooses one of the answers of `explore.predict`."""
    asked = page.locator(".jp-OutputArea-output .widget-vbox").filter(has_text=question).first
    asked.wait_for()
    asked.scroll_into_view_if_needed()
    asked.get_by_role("radio", name=option, exact=True).check()


def run_cell(page: Any, words: str) -> Any:
    """Runs the one code cell in which these words stand by Ctrl+Enter; gives the cell."""
    cell = page.locator(".jp-CodeCell").filter(has=page.locator(".jp-InputArea", has_text=words))
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    return cell


def readout(found: Any, label: str) -> Any:
    """What stands beside a slider."""
    return found.locator(".widget-hslider").filter(has_text=label).locator(".widget-readout").inner_text()
