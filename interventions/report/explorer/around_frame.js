(function () { // in the notebook: the frame is as high as its content, and learns whether the notebook is dark
  const frame = document.getElementById(FRAME);
  if (!frame) return;
  function dark() {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    for (let each = frame.parentElement; each; each = each.parentElement) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = getComputedStyle(each).backgroundColor;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, alpha] = canvas.getImageData(0, 0, 1, 1).data;
      if (alpha > 127) return 0.3 * r + 0.59 * g + 0.11 * b < 128;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches;
  }
  const tell = () => frame.contentWindow && frame.contentWindow.postMessage({ explorerDark: dark() }, "*");
  addEventListener("message", (event) => {
    if (!frame.contentWindow || event.source !== frame.contentWindow || !event.data || !(event.data.explorerHeight > 0)) return;
    frame.style.height = event.data.explorerHeight + "px";
  });
  frame.addEventListener("load", tell);
  for (const each of [document.documentElement, document.body]) new MutationObserver(tell).observe(each, { attributes: true });
  tell();
})();
