import { uuidFrom } from "./identity.mjs";

const DESKTOP = { width: 1280, height: 800 };
const LAPTOP = { width: 1024, height: 700 };
const NARROW = { width: 390, height: 780 };

/** A user as the site knows them when the visit begins; without a name and address unless signed in. */
function user(key, name = null, email = null) {
  return { user_id: uuidFrom(`user ${key}`), email, name };
}

// Each of these comes twice.
const jonas = user("jonas", "Jonas Weiß", "jonas@example.com");
const ida = user("ida", "Ida Lund", "ida@example.com");

export const sessions = [
  {
    name: "article-reader",
    user: jonas,
    viewport: DESKTOP,
    firstPage: "index.html",
    async visit(visitor) {
      await visitor.follow("main a[href='care.html']");
      await visitor.scroll(12);
      await visitor.click("#wood-glue summary");
      await visitor.scroll(5);
      await visitor.goBack();
    },
  },
  {
    name: "article-skimmer",
    user: user("ana", "Ana Conceição", "ana@example.com"),
    viewport: LAPTOP,
    firstPage: "care.html",
    async visit(visitor) {
      await visitor.click(".contents a[href='#storing']");
      await visitor.scroll(2);
      await visitor.pointAt(".long-read table");
      await visitor.scroll(-6);
      await visitor.click(".contents a[href='#questions']");
      await visitor.scroll(3);
    },
  },
  {
    name: "sign-up",
    user: user("mirela", "Mirela Pop", "mirela@example.com"),
    viewport: DESKTOP,
    firstPage: "index.html",
    async visit(visitor) {
      await visitor.follow(".masthead a[href='join.html']");
      await visitor.type("#name", "Mirela Pop");
      await visitor.type("#email", "mirela@example.com");
      await visitor.type("#password", "needle-drop");
      await visitor.choose("#genre", "Soul");
      await visitor.click("input[value='direct']");
      await visitor.click("#newsletter");
      await visitor.click("#join-button");
    },
  },
  {
    name: "sign-up-corrected",
    user: user("tom", "Tom Okafor", "tom@example.com"),
    viewport: LAPTOP,
    firstPage: "join.html",
    async visit(visitor) {
      await visitor.click("#join-button");
      await visitor.type("#name", "Tom");
      await visitor.type("#email", "tom at example");
      await visitor.type("#password", "short");
      await visitor.click("#join-button");
      await visitor.clear("#email");
      await visitor.type("#email", "tom@example.com");
      await visitor.type("#password", " no longer");
      await visitor.click("#join-button");
      await visitor.letRecorderTakeSnapshot();
    },
  },
  {
    name: "crate-editor",
    user: ida,
    viewport: DESKTOP,
    firstPage: "crate.html",
    async visit(visitor) {
      await visitor.type("#add-title", "Rain on a Tin Roof");
      await visitor.press("Enter");
      await visitor.type("#add-title", "Low Tide");
      await visitor.press("Enter");
      await visitor.click("#sort");
      await visitor.click("#crate li:nth-child(3) button");
      await visitor.click("#crate li:nth-child(1) button");
      await visitor.letRecorderTakeSnapshot();
    },
  },
  {
    name: "crate-filter",
    user: user("bo", "Bo"),
    viewport: LAPTOP,
    firstPage: "crate.html",
    async visit(visitor) {
      await visitor.type("#filter", "möwen");
      await visitor.clear("#filter");
      await visitor.type("#filter", "zzz");
      await visitor.clear("#filter");
    },
  },
  {
    name: "add-and-undo",
    user: ida,
    viewport: DESKTOP,
    firstPage: "crate.html",
    // The crate ends as it began, so the last page state equals the first.
    async visit(visitor) {
      await visitor.type("#add-title", "Second Thoughts");
      await visitor.press("Enter");
      await visitor.letRecorderTakeSnapshot();
      await visitor.click("#crate li:last-child button");
      await visitor.letRecorderTakeSnapshot();
    },
  },
  {
    name: "dialog-viewer",
    user: user("odile", "Odile Ferrand", "odile@example.com"),
    viewport: DESKTOP,
    firstPage: "index.html",
    async visit(visitor) {
      await visitor.click("button[data-record='night-drive']");
      await visitor.click("#details-like");
      await visitor.letRecorderTakeSnapshot();
      await visitor.click("#details-close");
      await visitor.click("button[data-record='brass-weather']");
      await visitor.press("Escape");
      await visitor.click("button[data-record='tired-gulls']");
      await visitor.click("#details-close");
    },
  },
  {
    name: "window-resizer",
    user: user("sven", "Sven Åkesson", "sven@example.com"),
    viewport: DESKTOP,
    firstPage: "index.html",
    async visit(visitor) {
      await visitor.resizeWindow(900, 700);
      await visitor.resizeWindow(480, 700);
      await visitor.scroll(3);
      await visitor.follow(".masthead a[href='care.html']");
      await visitor.resizeWindow(1280, 800);
      await visitor.scroll(2);
    },
  },
  {
    name: "every-page",
    user: user("priya", "Priya Raman", "priya@example.com"),
    viewport: LAPTOP,
    firstPage: "index.html",
    async visit(visitor) {
      await visitor.follow(".masthead a[href='crate.html']");
      await visitor.follow(".masthead a[href='care.html']");
      await visitor.follow(".masthead a[href='letters.html']");
      await visitor.follow(".masthead a[href='join.html']");
      await visitor.follow(".brand");
    },
  },
  {
    name: "anonymous-reader",
    user: user("stranger"),
    viewport: NARROW,
    firstPage: "letters.html",
    async visit(visitor) {
      await visitor.scroll(3);
      await visitor.click(".letter:nth-of-type(3) button");
      await visitor.scroll(-3);
      await visitor.follow(".brand");
      await visitor.scroll(2);
    },
  },
  {
    name: "joins-half-way",
    // Not signed in when the visit begins, so the recording knows neither name nor address.
    user: user("yuki"),
    viewport: DESKTOP,
    firstPage: "letters.html",
    async visit(visitor) {
      await visitor.scroll(2);
      await visitor.follow(".masthead a[href='join.html']");
      await visitor.type("#name", "雪 Müller 🎧");
      await visitor.type("#email", "yuki@example.com");
      await visitor.type("#password", "夜のドライブ-1981");
      await visitor.choose("#genre", "City pop");
      await visitor.type("#wishes", "Bitte kein Jazz. ありがとう! 🙏");
      await visitor.click("#join-button");
      await visitor.letRecorderTakeSnapshot();
      await visitor.follow("#welcome-crate");
      await visitor.type("#add-title", "雨の夜 🌧️");
      await visitor.press("Enter");
      await visitor.letRecorderTakeSnapshot();
    },
  },
  {
    name: "new-member-returns",
    user: user("yuki", "雪 Müller 🎧", "yuki@example.com"),
    viewport: DESKTOP,
    firstPage: "crate.html",
    async visit(visitor) {
      await visitor.type("#filter", "ł");
      await visitor.clear("#filter");
      await visitor.follow(".masthead a[href='letters.html']");
      await visitor.scroll(2);
    },
  },
  {
    name: "returning-reader",
    user: jonas,
    viewport: DESKTOP,
    firstPage: "index.html",
    async visit(visitor) {
      await visitor.follow("main a[href='care.html']");
      await visitor.click(".contents a[href='#moving']");
      await visitor.scroll(3);
    },
  },
  {
    name: "applauder",
    user: user("zoe", "Zoë O’Brien", "zoe@example.com"),
    viewport: LAPTOP,
    firstPage: "letters.html",
    async visit(visitor) {
      await visitor.click(".letter:nth-of-type(1) button");
      await visitor.click(".letter:nth-of-type(1) button");
      await visitor.scroll(2);
      await visitor.click(".letter:nth-of-type(4) button");
      await visitor.click(".letter:nth-of-type(6) button");
      await visitor.letRecorderTakeSnapshot();
    },
  },
  {
    name: "glance",
    user: user("passer-by"),
    viewport: NARROW,
    firstPage: "index.html",
    // Looks and leaves: the shortest recording there is.
    async visit(visitor) {
      await visitor.pause();
    },
  },
];
