// What the shop sells. Titles and artists are invented; several are not ASCII on purpose.
export const records = [
  { id: "night-drive", title: "夜のドライブ", artist: "美咲トリオ", year: 1981, note: "City pop for wet roads." },
  { id: "tired-gulls", title: "Müde Möwen", artist: "Küstenfunk", year: 1974, note: "Two synthesisers and a harbour." },
  { id: "corner-cafe", title: "Café d’Été", artist: "Les Zèbres Bleus", year: 1968, note: "An accordion that swings. ☀️" },
  { id: "blue-dawn", title: "파란 새벽", artist: "한강 사중주", year: 1992, note: "A string quartet before breakfast." },
  { id: "slow-lantern", title: "Slow Lantern", artist: "The Ferrymen", year: 1971, note: "Folk, recorded in one take in a barn." },
  { id: "yellow-boat", title: "Żółta łódź", artist: "Orkiestra Świt", year: 1979, note: "Brass band, children’s choir, one pigeon." },
  { id: "brass-weather", title: "Brass Weather", artist: "Odessa Vance", year: 1965, note: "Soul with a storm in the second half." },
  { id: "paper-moons", title: "Paper Moons", artist: "Ida & the Orbit", year: 2003, note: "Eleven lullabies for adults. 🌙" },
];
