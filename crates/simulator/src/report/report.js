"use strict";
// Shows the values of the slice under the pointer; the plots are whole without it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const format = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  for (const plot of document.querySelectorAll("svg.plot")) {
    const { left, right, width } = plot.dataset;
    const cursor = plot.querySelector(".cursor");
    const hide = () => { tip.hidden = true; cursor.style.visibility = "hidden"; };
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * width;
      const share = (x - left) / (width - left - right);
      const at = Math.floor(share * data.slices);
      if (at < 0 || at >= data.slices) return hide();
      const moment = new Date(data.start + at * data.slice).toISOString().slice(0, 16).replace("T", " ");
      const rows = data[plot.id].filter((s) => s.values[at] > 0 || data[plot.id].length < 3);
      tip.textContent = [moment + " UTC", ...rows.map((s) => s.name + "  " + format.format(s.values[at] ?? 0))].join("\n");
      tip.hidden = false;
      tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
      tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.visibility = "visible";
    });
  }
})();
