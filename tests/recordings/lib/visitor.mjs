// How long rrweb may hold back pointer positions before it emits them, with some room.
const RECORDER_DELAY = 700;

/** Someone using the site: every act takes real time and goes through the browser's own input. */
export class Visitor {
  #page;
  #choose;
  #pointer = { x: 40, y: 40 };

  constructor(page, choose) {
    this.#page = page;
    this.#choose = choose;
  }

  async pause(shortest = 200, longest = 500) {
    await this.#page.waitForTimeout(this.#choose(shortest, longest));
  }

  async letRecorderCatchUp() {
    await this.#page.waitForTimeout(RECORDER_DELAY);
  }

  /** Moves the pointer onto an element, in steps a hand would make. */
  async pointAt(selector) {
    const target = this.#page.locator(selector);
    await target.scrollIntoViewIfNeeded();
    const box = await target.boundingBox();
    await this.#glideTo({
      x: box.x + box.width * this.#choose(0.3, 0.7),
      y: box.y + box.height * this.#choose(0.3, 0.7),
    });
  }

  async #glideTo(end) {
    const start = this.#pointer;
    const steps = Math.round(this.#choose(5, 9));
    for (let step = 1; step <= steps; step += 1) {
      const share = step / steps;
      await this.#page.mouse.move(start.x + (end.x - start.x) * share, start.y + (end.y - start.y) * share);
      await this.#page.waitForTimeout(this.#choose(25, 50));
    }
    this.#pointer = end;
  }

  async click(selector) {
    await this.pointAt(selector);
    await this.#page.mouse.down();
    await this.#page.mouse.up();
    await this.pause();
  }

  async press(key) {
    await this.#page.keyboard.press(key);
    await this.pause();
  }

  /** Clicks a link to another page and waits until that page is there. */
  async follow(selector) {
    // Pointer positions still held back would be lost with the page.
    await this.letRecorderCatchUp();
    const loaded = this.#page.waitForEvent("load");
    await this.click(selector);
    await loaded;
    await this.pause();
  }

  async goBack() {
    await this.letRecorderCatchUp();
    await this.#page.goBack();
    await this.pause();
  }

  async type(selector, text) {
    await this.click(selector);
    // By code point: half an emoji is no key.
    for (const character of text) {
      await this.#page.keyboard.type(character);
      await this.#page.waitForTimeout(this.#choose(20, 70));
    }
    await this.pause();
  }

  async clear(selector) {
    await this.click(selector);
    await this.#page.keyboard.press("Control+A");
    await this.press("Delete");
  }

  async choose(selector, option) {
    await this.pointAt(selector);
    await this.#page.selectOption(selector, option);
    await this.pause();
  }

  /** Turns the wheel a number of times, stopping to read after each turn. Negative turns go up. */
  async scroll(turns) {
    for (let turn = 0; turn < Math.abs(turns); turn += 1) {
      await this.#page.mouse.wheel(0, Math.sign(turns) * this.#choose(250, 450));
      await this.pause(150, 400);
    }
  }

  async resizeWindow(width, height) {
    await this.#page.setViewportSize({ width, height });
    await this.pause();
  }

  /** Has the recorder take a full snapshot in mid-page, as recorders do every so often. */
  async letRecorderTakeSnapshot() {
    await this.letRecorderCatchUp();
    await this.#page.evaluate(() => rrweb.record.takeFullSnapshot(true));
    await this.pause();
  }
}
