// Blocks of samples from the microphone to the page, in the browser's own thread for sound.
registerProcessor("microphone", class extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0].length) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
});
