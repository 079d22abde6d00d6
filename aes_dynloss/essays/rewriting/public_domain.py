"""Short passages of songs and speeches that anybody knows, and that belong to nobody: all were printed before 1900."""

from __future__ import annotations

SONGS = (
    # Francis Scott Key, Defence of Fort M'Henry (1814).
    "O say can you see, by the dawn's early light, what so proudly we hailed at the twilight's last gleaming, whose "
    "broad stripes and bright stars through the perilous fight, o'er the ramparts we watched, were so gallantly "
    "streaming?",
    # John Newton, Faith's Review and Expectation, in Olney Hymns (1779).
    "Amazing grace! how sweet the sound, that saved a wretch like me! I once was lost, but now am found, was blind, "
    "but now I see.",
    # Jane Taylor, The Star (1806).
    "Twinkle, twinkle, little star, how I wonder what you are! Up above the world so high, like a diamond in the sky.",
    # James Lord Pierpont, The One Horse Open Sleigh (1857).
    "Dashing through the snow, in a one horse open sleigh, o'er the fields we go, laughing all the way. Bells on "
    "bobtail ring, making spirits bright. What fun it is to ride and sing a sleighing song tonight!",
)

SPEECHES = (
    # Abraham Lincoln at Gettysburg (1863).
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, "
    "and dedicated to the proposition that all men are created equal. Now we are engaged in a great civil war, testing "
    "whether that nation, or any nation so conceived and so dedicated, can long endure.",
    # Patrick Henry (1775), in William Wirt's Sketches of the Life and Character of Patrick Henry (1817).
    "Is life so dear, or peace so sweet, as to be purchased at the price of chains and slavery? Forbid it, Almighty "
    "God! I know not what course others may take; but as for me, give me liberty or give me death!",
    # Abraham Lincoln, second inaugural address (1865).
    "With malice toward none; with charity for all; with firmness in the right, as God gives us to see the right, let "
    "us strive on to finish the work we are in; to bind up the nation's wounds.",
    # Frederick Douglass at Canandaigua (1857).
    "If there is no struggle there is no progress. Those who profess to favor freedom and yet deprecate agitation are "
    "men who want crops without plowing up the ground. They want rain without thunder and lightning.",
)
