"""Words of the generated LIMIT collections: names of people, and things that they like.

Of the things no two have the same stem, nor do a thing and a name, so that a word tells one thing.
"""

from __future__ import annotations

listed = str.split

# A name: a first name with a surname, which is a beginning with an ending.
FIRST_NAMES = listed("""
Abel Ada Adele Agnes Alan Albert Alma Alvin Amos Anita Anton Arlo Arthur Astrid Audrey Barnaby
Beatrix Benno Bertha Boris Bridget Bruno Camilla Carlos Cecil Celia Clara Conrad Cora Cyrus Daphne
Dario Della Desmond Dinah Donald Dora Edgar Edith Edwin Effie Elias Ella Elmer Elsa Emil Enid Erik
Esther Ethel Eugene Eunice Felix Fergus Fiona Floyd Freda Gareth Gerda Gilbert Gloria Greta Gustav
Harriet Hazim Hector Heidi Helga Henry Hilda Hiram Homer Horace Hugo Ian Ida Igor Ines Ingrid Irma
Isaac Isolde Ivan Ivor Jasmin Jerome Joan Jonas Judith Julius Karl Keith Klara Lars Laszlo Leila
Leon Linda Lionel Lottie Lucas Lydia Mabel Magnus Malcolm Marta Maude Milo Miriam Mona Morris Myra
Nadia Neil Nestor Nora Norman Olga Oscar Otis Ottilie Owen Pablo Pavel Percy Phoebe Quentin Ralph
Ramona Regina Rita Robert Roland Rosalind Rufus Ruth Samuel Selma Sergio Sheila Silas Simon Sophie
Stella Stuart Sylvia Thelma Theo Tobias Ursula Valerie Vera Victor Vincent Wanda Warren Wilfred
Winifred Xavier Yolanda Yusuf Zelda Zoltan
""")
SURNAME_BEGINNINGS = listed("""
Alder Amble Bel Black Bram Brent Broad Cal Carl Chal Chester Clav Cor Cran Dal Den Dun Ed Ever Far
Fen Gar Glen Grim Hal Har Hart Haw High Hol Hors Kel Kin Kirk Lam Lang Lin Mal Mar Mel Mid Nor Oak
Pem Pen Pres Rad Rams Roth Rush Sel Shel Stan Stock Sut Thorn Tol Up Wal War Whit Win Wood Yar
""")
SURNAME_ENDINGS = listed("""
bourne bridge burn bury by combe cott dale field ford grave ham hurst ington land ley low mere more
ney sall shaw stead stoke ton well wick worth
""")

THINGS = listed("""
Aardvarks Alpacas Anteaters Antelopes Armadillos Axolotls Baboons Badgers Barracudas Bats Bears
Beavers Beetles Bison Bluebirds Boars Bobcats Bonobos Buffaloes Bumblebees Butterflies Buzzards
Camels Canaries Capybaras Caracals Caribou Carps Caterpillars Catfish Cats Centipedes Chameleons
Cheetahs Chickadees Chimpanzees Chinchillas Chipmunks Cicadas Clams Cobras Cockatoos Condors Corals
Cougars Cows Coyotes Crabs Crayfish Crocodiles Crows Cuckoos Deer Dingoes Dodos Dogs Dolphins
Donkeys Doves Dragonflies Ducks Eagles Earthworms Echidnas Eels Egrets Elephants Elks Emus Falcons
Ferrets Finches Fireflies Flamingos Foxes Frogs Gazelles Geckos Geese Gerbils Gibbons Giraffes
Goats Goldfish Gorillas Grasshoppers Grouse Guppies Haddock Halibut Hamsters Hares Hawks Hedgehogs
Herons Herrings Hippos Hornets Horses Hummingbirds Hyenas Ibexes Iguanas Impalas Jackals Jaguars
Jays Jellyfish Kangaroos Kingfishers Koalas Krill Ladybugs Larks Lemmings Lemurs Leopards Lions
Lizards Llamas Lobsters Locusts Loons Lynxes Macaws Mackerels Magpies Mammoths Manatees Mandrills
Mantises Marmots Meerkats Minnows Moles Mongooses Moose Mosquitoes Moths Mules Mussels Narwhals
Newts Nightingales Ocelots Octopuses Okapis Opossums Orangutans Orcas Orioles Ospreys Ostriches
Otters Owls Oxen Oysters Pandas Pangolins Panthers Parakeets Parrots Partridges Peacocks Pelicans
Penguins Pheasants Pigeons Pikas Piranhas Platypuses Ponies Porcupines Porpoises Prawns Puffins
Pumas Pythons Quails Quokkas Rabbits Raccoons Rattlesnakes Ravens Reindeer Rhinos Roadrunners
Robins Roosters Salamanders Salmon Sandpipers Sardines Scorpions Seagulls Seahorses Seals Sharks
Sheep Shrews Shrimps Skunks Sloths Slugs Snails Snakes Sparrows Spiders Squids Squirrels Starfish
Starlings Stingrays Storks Swans Swordfish Tadpoles Tapirs Tarantulas Termites Terns Tigers Toads
Tortoises Toucans Trouts Tuna Turkeys Turtles Vipers Voles Vultures Wallabies Walruses Warthogs
Wasps Weasels Whales Wildebeests Wolverines Wolves Wombats Woodpeckers Wrens Yaks Zebras Almonds
Anchovies Apples Apricots Artichokes Asparagus Avocados Bacon Bagels Baguettes Baklava Bananas
Barley Basil Beetroots Biscuits Blackberries Blueberries Borscht Brie Brioches Broccoli Broth
Brownies Bulgur Burgers Burritos Butter Buttermilk Cabbages Cakes Camembert Cannoli Cantaloupes
Capers Caramel Caraway Cardamom Carrots Cashews Casseroles Cauliflowers Caviar Celery Cereal Chard
Cheddar Cheesecakes Cherries Chestnuts Chickpeas Chicory Chilies Chives Chocolate Chowder Chutney
Cider Cilantro Cinnamon Clementines Cloves Cobblers Cocoa Coconuts Coffee Coleslaw Cookies
Coriander Couscous Crackers Cranberries Crepes Croissants Croutons Cucumbers Cumin Cupcakes
Currants Curry Custard Dates Dill Doughnuts Dumplings Eggplants Eggs Enchiladas Escargots Espresso
Falafel Fennel Feta Figs Flan Focaccia Fondue Fudge Garlic Gazpacho Gelato Ginger Gingerbread
Gnocchi Goulash Granola Grapefruits Grapes Gravy Guacamole Guavas Gumbo Ham Hazelnuts Honey
Horseradish Hummus Jalapenos Jam Jambalaya Kale Kebabs Ketchup Kimchi Kumquats Lasagna Lavender
Leeks Lemonade Lemons Lentils Lettuce Licorice Limes Linguine Lollipops Lychees Macaroni Macaroons
Mangoes Maple Margarine Marmalade Marshmallows Marzipan Mayonnaise Meatballs Melons Meringues Milk
Millet Mint Miso Molasses Mozzarella Muesli Muffins Mushrooms Mustard Nachos Nectarines Noodles
Nougat Nutmeg Oatmeal Okra Olives Omelettes Onions Oranges Oregano Paella Pancakes Papayas Paprika
Parmesan Parsley Parsnips Pasta Pastrami Peaches Peanuts Pears Peas Pecans Pepper Pesto Pickles
Pies Pineapples Pistachios Pizza Plums Polenta Pomegranates Popcorn Popsicles Porridge Potatoes
Pretzels Prunes Pudding Pumpkins Quesadillas Quiches Quinoa Radishes Raisins Ramen Raspberries
Ratatouille Ravioli Relish Rhubarb Rice Ricotta Risotto Rosemary Saffron Salads Salami Salsa
Sandwiches Sauerkraut Sausages Scones Sesame Shallots Sherbet Smoothies Sorbet Souffles Soups
Spaghetti Spinach Steaks Stews Strawberries Strudel Sushi Syrup Tabasco Tacos Tahini Tamales
Tangerines Tapioca Tarragon Tarts Tempura Thyme Tiramisu Toast Toffee Tofu Tomatoes Tortillas
Truffles Turmeric Turnips Vanilla Vinegar Waffles Walnuts Wasabi Watermelons Yogurt Zucchini
Archery Badminton Ballet Baseball Basketball Biathlon Billiards Bobsleigh Bowling Boxing Breakdance
Canoeing Capoeira Cheerleading Climbing Cricket Croquet Curling Cycling Darts Decathlons Fencing
Fishing Football Frisbees Golf Gymnastics Handball Hiking Hockey Hopscotch Hunting Hurdles Jogging
Judo Juggling Karate Kayaks Kendo Kickball Lacrosse Marathons Motocross Netball Orienteering
Paddleboards Parachutes Paragliding Parkour Pilates Polo Racquets Rafting Rappelling Rodeos Rowing
Rugby Sailing Skateboards Skating Skiing Snorkels Snowboards Soccer Softball Sprinting Squash
Surfing Swimming Taekwondo Tennis Trampolines Triathlons Volleyball Waterskis Weightlifting
Windsurfers Wrestling Yachts Yoga Zumba Accordions Bagpipes Balalaikas Ballads Banjos Bassoons
Bebop Bluegrass Blues Bongos Bugles Castanets Cellos Choirs Clarinets Concertos Cymbals Disco Drums
Dubstep Dulcimers Fanfares Fiddles Flamenco Flutes Funk Glockenspiels Gongs Gospel Grunge Guitars
Harmonicas Harps Harpsichords Hymns Jazz Karaoke Keyboards Kazoos Lullabies Lutes Lyres Madrigals
Mandolins Maracas Marimbas Mazurkas Metal Minuets Nocturnes Oboes Ocarinas Operas Oratorios
Orchestras Organs Overtures Pianos Piccolos Polkas Psalms Ragas Ragtime Rap Recorders Reggae
Requiems Rumba Samba Saxophones Serenades Shanties Sitars Sonatas Soul Symphonies Synthesizers
Tambourines Tango Techno Timpani Triangles Trombones Trumpets Tubas Ukuleles Violas Violins Waltzes
Whistles Xylophones Yodeling Zithers Acting Anagrams Animation Antiques Aquariums Astrology
Astronomy Autographs Backgammon Baking Beekeeping Birdwatching Blogs Bonsai Bookbinding Calligraphy
Camping Candles Caricatures Carpentry Cartoons Carving Ceramics Charades Checkers Chess Cinema
Circuses Coins Collages Comics Composting Cooking Cosplay Crochet Crosswords Documentaries Dominoes
Drawing Embroidery Enamel Engraving Etchings Falconry Fireworks Foraging Gardening Genealogy
Geocaching Glassblowing Graffiti Haiku Handwriting Herbalism Horoscopes Improvisation Ikebana
Jigsaws Jokes Karting Kites Knitting Knots Lace Leatherwork Legends Limericks Lithographs
Locksmithing Macrame Magic Mahjong Manga Marionettes Masquerades Meditation Memoirs Metalwork
Miniatures Mosaics Murals Museums Musicals Mysteries Mythology Needlepoint Novels Numismatics
Origami Painting Palindromes Pantomimes Papercraft Photography Picnics Pinball Poetry Poker
Postcards Pottery Proverbs Puppetry Puzzles Quilts Quizzes Reading Riddles Roulette Satire Scrabble
Scrapbooks Screenwriting Sculptures Sewing Shakespeare Silhouettes Singing Sketches Skits Solitaire
Sonnets Spinning Stamps Storytelling Sudoku Tapestries Tarot Taxidermy Telescopes Theater Thrillers
Topiary Tragedies Trivia Ventriloquism Videogames Watercolors Weaving Westerns Whittling Woodcuts
Acacias Acorns Alders Aloes Amaranths Anemones Asters Azaleas Bamboo Baobabs Begonias Birches
Bluebells Bracken Brambles Buttercups Cacti Camellias Carnations Cedars Chamomile Chrysanthemums
Clematis Clovers Cowslips Crocuses Cypresses Daffodils Dahlias Daisies Dandelions Edelweiss Elms
Eucalyptus Ferns Forsythias Foxgloves Freesias Fuchsias Gardenias Gentians Geraniums Ginkgos
Gladioli Goldenrod Hawthorn Heather Hemlocks Hibiscus Hollyhocks Honeysuckle Hyacinths Hydrangeas
Irises Ivy Jacarandas Jonquils Junipers Larches Lichen Lilacs Lilies Lindens Lobelias Lotuses
Lupins Magnolias Mahogany Mangroves Marigolds Mimosas Mistletoe Moss Myrtles Narcissi Nasturtiums
Nettles Oleanders Orchids Palms Pansies Peonies Petunias Phlox Pines Poinsettias Poplars Poppies
Primroses Reeds Rhododendrons Roses Sagebrush Sequoias Shamrocks Snapdragons Snowdrops Sorrel
Spruces Sunflowers Sycamores Tamarinds Thistles Tulips Verbena Violets Willows Wisteria Yews Yuccas
Zinnias Agates Alabaster Amber Amethysts Aquamarines Basalt Brass Bronze Chalk Cobalt Copper
Crystals Diamonds Ebony Emeralds Flint Fossils Garnets Geodes Gold Granite Graphite Hematite Ivory
Jade Jasper Lapis Limestone Malachite Marble Meteorites Moonstones Obsidian Onyx Opals Pearls
Pewter Platinum Porcelain Pumice Pyrite Quartz Rubies Sandstone Sapphires Silver Slate Soapstone
Steel Sulfur Tanzanite Terracotta Tin Titanium Topaz Tourmaline Turquoise Zircon Aprons Bandanas
Berets Blazers Boots Bowties Bracelets Brocade Brooches Buckles Buttons Capes Cardigans Cashmere
Chiffon Cloaks Corduroy Cotton Cravats Crinolines Cufflinks Denim Earmuffs Earrings Fedoras Flannel
Gingham Gloves Goggles Handbags Hoodies Jackets Jeans Jewelry Jumpsuits Kerchiefs Kilts Kimonos
Leggings Linen Lockets Mascara Mittens Moccasins Monocles Muslin Necklaces Nylon Overalls Pajamas
Paisley Parkas Pendants Perfume Petticoats Plaid Pompoms Ponchos Raincoats Sandals Saris Sashes
Satin Scarves Sequins Shawls Shoelaces Shorts Silk Skirts Slippers Sneakers Socks Sombreros
Spectacles Sunglasses Suspenders Sweaters Taffeta Tartan Tiaras Toupees Tuxedos Tweed Umbrellas
Uniforms Veils Velvet Vests Wigs Wool Wristwatches Zippers Abacuses Anvils Axes Balloons Barometers
Barrels Baskets Bathtubs Bells Binoculars Blankets Blenders Bookcases Bottles Bricks Brooms Buckets
Calculators Calendars Cameras Carpets Cauldrons Chairs Chandeliers Chisels Chopsticks Clocks
Coasters Colanders Compasses Corkscrews Couches Crayons Cupboards Curtains Cushions Dice
Dictionaries Dishwashers Dolls Doorbells Encyclopedias Envelopes Erasers Faucets Fireplaces
Flashlights Footstools Forks Fountains Freezers Funnels Globes Goblets Gramophones Hammers Hammocks
Hinges Hourglasses Incense Jars Kaleidoscopes Kettles Keychains Ladders Ladles Lamps Lanterns
Lawnmowers Levers Looms Magnets Maps Mattresses Megaphones Metronomes Microphones Microscopes
Microwaves Mirrors Mops Mugs Nails Napkins Notebooks Ovens Paintbrushes Paperclips Pencils
Pendulums Periscopes Pillows Pincushions Pitchforks Pliers Pulleys Radios Razors Refrigerators
Ropes Rulers Saucers Scales Scissors Screwdrivers Sewers Shampoo Shovels Sieves Skillets Slingshots
Soap Spatulas Spools Spoons Sponges Staplers Stethoscopes Suitcases Sundials Teapots Telegraphs
Telephones Televisions Thermometers Thermoses Thimbles Toasters Toothbrushes Towels Trays Tripods
Trowels Tweezers Typewriters Vases Wallets Wardrobes Wheelbarrows Windmills Wrenches Airplanes
Airships Ambulances Bicycles Blimps Bulldozers Buses Carriages Catamarans Chariots Convertibles
Elevators Escalators Ferries Gondolas Helicopters Hovercrafts Jeeps Jetpacks Limousines Locomotives
Minivans Monorails Mopeds Motorcycles Rickshaws Rockets Rowboats Satellites Schooners Scooters
Sidecars Sleds Snowmobiles Steamboats Stagecoaches Submarines Subways Tandems Taxis Toboggans
Tractors Trains Tricycles Trolleys Trucks Tugboats Unicycles Vans Wagons Zeppelins Acoustics
Algebra Anatomy Anthropology Archaeology Architecture Arithmetic Biology Botany Calculus
Cartography Chemistry Cosmology Cryptography Dentistry Diplomacy Ecology Economics Engineering
Etymology Forestry Genetics Geography Geology Geometry Grammar Heraldry History Hydraulics
Journalism Jurisprudence Linguistics Logic Mathematics Mechanics Medicine Meteorology Navigation
Neurology Nursing Oceanography Optics Ornithology Paleontology Pedagogy Pharmacology Philosophy
Phonetics Physics Politics Psychology Robotics Seismology Semantics Sociology Statistics Surgery
Surveying Syntax Theology Topology Trigonometry Typography Volcanology Zoology Atolls Auroras
Avalanches Bays Beaches Blizzards Bonfires Breezes Brooks Canals Canyons Caves Cliffs Clouds Comets
Constellations Craters Creeks Deltas Deserts Dewdrops Drizzle Dunes Earthquakes Eclipses Equinoxes
Estuaries Fjords Floods Fog Forests Frost Galaxies Geysers Glaciers Gorges Grasslands Hail Harbors
Harvests Hills Hurricanes Icebergs Islands Jungles Lagoons Lakes Lightning Marshes Meadows Midnight
Mirages Mist Moonlight Mountains Nebulae Oases Oceans Orchards Peninsulas Plains Planets Plateaus
Prairies Puddles Quicksand Rainbows Rainforests Rapids Ravines Reefs Rivers Savannas Shadows Shores
Sinkholes Sleet Snowflakes Springtime Stalactites Stars Storms Summits Sunrises Sunsets Supernovas
Swamps Thunder Tides Tornadoes Tundra Twilight Typhoons Valleys Volcanoes Waterfalls Waves
Whirlpools Wilderness Winters Abbeys Aqueducts Arcades Attics Bakeries Balconies Barns Basilicas
Bazaars Bistros Boardwalks Bookstores Bungalows Cabins Cafes Campsites Carousels Castles Cathedrals
Cellars Chalets Chapels Cloisters Colosseums Cottages Courtyards Cupolas Dams Domes Drawbridges
Farms Gazebos Greenhouses Gymnasiums Haystacks Hedges Hostels Hotels Igloos Inns Jetties Kiosks
Kitchens Labyrinths Laboratories Libraries Lighthouses Lodges Mansions Markets Mazes Minarets
Monasteries Monuments Mosques Motels Nurseries Obelisks Observatories Pagodas Palaces Parks Patios
Pavilions Piers Planetariums Playgrounds Plazas Porches Pyramids Ranches Restaurants Ruins Saloons
Saunas Scaffolds Shipyards Skyscrapers Spas Stadiums Staircases Steeples Taverns Temples Tents
Terraces Towers Treehouses Tunnels Verandas Viaducts Villas Vineyards Wigwams Zoos Accountants
Acrobats Admirals Ambassadors Astronauts Barbers Bartenders Blacksmiths Bodyguards Butchers Butlers
Clowns Conductors Detectives Electricians Explorers Florists Gladiators Goldsmiths Jesters Jockeys
Judges Knights Lawyers Librarians Lifeguards Magicians Matadors Mayors Mermaids Milkmen Monks
Musketeers Ninjas Optometrists Pharaohs Pilots Pirates Plumbers Postmen Professors Samurai
Sculptors Sheriffs Shepherds Sopranos Sorcerers Stuntmen Tailors Trapezists Troubadours Ushers
Veterinarians Vikings Wizards Zookeepers Adventures Altruism Ambition Anniversaries Applause Autumn
Birthdays Carnivals Ceremonies Charity Compliments Courage Courtesy Curiosity Daydreams Democracy
Discipline Elegance Empathy Festivals Forgiveness Freedom Friendship Generosity Gratitude Happiness
Harmony Holidays Honesty Honeymoons Humility Humor Independence Innovation Integrity Intuition
Irony Jubilees Justice Kindness Laughter Leisure Loyalty Minimalism Mischief Modesty Nostalgia
Optimism Parades Patience Perfection Pilgrimages Punctuality Rebellion Reunions Romance Routines
Serendipity Silence Simplicity Solitude Souvenirs Spontaneity Symmetry Teamwork Tolerance
Tranquility Vacations Weddings Wisdom
""")

# What a thing becomes when there are more questions than things: a thing and one of these.
KINDS = listed("""
Almanacs Anthems Badges Banners Contests Emblems Exhibitions Figurines Lectures Pamphlets Posters
Stickers Tattoos Wallpapers
""")
