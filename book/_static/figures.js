// Draws the explorers' figures from the data that lie in the page, and takes the static pictures away once drawn.
// On a phone the picture stays: it shrinks as a whole, while the titles of a live figure would run into each other.
"use strict";

const NARROW = 500; // pixels

function draw(figure) {
    const plot = figure.querySelector(".plot");
    const { data, layout, frames } = JSON.parse(figure.querySelector("script").textContent);
    delete layout.width;
    layout.autosize = true;
    plot.style.height = `${layout.height || 450}px`;
    const config = { responsive: true, displaylogo: false };
    return Plotly.newPlot(plot, { data, layout, frames: frames || [], config }).then(() => {
        figure.classList.add("drawn");
        // plotly listens to the window only, and so would miss a side bar that opens or closes
        new ResizeObserver(() => Plotly.Plots.resize(plot)).observe(figure);
    });
}

function whenWideEnough(entries, observer) {
    for (const { target: figure } of entries) {
        if (figure.clientWidth < NARROW) continue;
        observer.unobserve(figure);
        draw(figure).catch((error) => { // the picture stays
            figure.querySelector(".plot").remove();
            console.error(error);
        });
    }
}

const waiting = new ResizeObserver(whenWideEnough);
document.querySelectorAll("figure.live").forEach((figure) => waiting.observe(figure));
