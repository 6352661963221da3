// The browser's half of live.py: every figure shares the one plotly.js that its kernel sent.

const MESSAGES = ["addTraces", "deleteTraces", "moveTraces", "restyle", "relayout", "update", "animate",
                  "removeLayoutProps", "removeTraceProps"].map((name) => `_py2js_${name}`);

async function plotly(model) {
    const [library, version] = [model.get("library"), model.get("version")];
    const shared = (globalThis.tfexplorePlotly ??= {});
    shared[version] ??= (async () => {
        const sent = await model.widget_manager.get_model(library.slice("IPY_MODEL_".length));
        const address = URL.createObjectURL(new Blob([sent.get("value")], { type: "text/javascript" }));
        try {
            return (await import(address)).default;
        } catch (error) {
            delete shared[version];
            throw error;
        } finally {
            URL.revokeObjectURL(address);
        }
    })();
    return shared[version];
}

export default () => {
    let figure;
    return {
        // returns at once: anywidget gives up on a model that takes two seconds, and plotly.js may, on a slow machine
        initialize(context) {
            const { model } = context, waiting = [], listeners = [];
            for (const name of MESSAGES) {  // what Python says meanwhile
                const keep = () => model.get(name) !== null && waiting.push([name, model.get(name)]);
                model.on(`change:${name}`, keep);
                listeners.push([`change:${name}`, keep]);
            }
            figure = plotly(model).then((make) => {
                const widget = make();
                widget.initialize(context);
                for (const [event, keep] of listeners) model.off(event, keep);
                for (const [name, message] of waiting) {
                    model.set(name, null);
                    model.set(name, message);
                }
                return widget;
            });
        },
        async render(context) {
            const { el } = context;
            const widget = await figure.catch((error) => {
                el.textContent = `The figure cannot be drawn: plotly.js did not start here (${error.message}).`;
            });
            if (!widget) return;
            const leave = await widget.render(context);
            // plotly listens to the window only, and so misses a cell that comes into view, or a side bar that closes;
            // told while it draws, it may miss that too: it is asked again after a drawing, up to three times for a width
            const plot = () => (el._fullLayout ? el : el.querySelector(".js-plotly-plot"));
            let [wide, asked] = [0, 0];
            const fit = () => {
                const width = plot()?._fullLayout?.width;
                if (wide !== el.clientWidth) [wide, asked] = [el.clientWidth, 0];
                if (width && Math.abs(width - wide) > 2 && asked++ < 3) window.dispatchEvent(new Event("resize"));
            };
            plot()?.on("plotly_afterplot", fit);
            const observer = new ResizeObserver(fit);
            observer.observe(el);
            return () => {
                observer.disconnect();
                leave();
            };
        },
    };
};
