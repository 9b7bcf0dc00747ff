"""Which document is for training, which for development, which for the test."""

from collections import Counter
from typing import Collection, Dict, Mapping, Sequence, Tuple

from ..errors import Errors

SPLITS = ("train", "dev", "test")

# The split of "An Annotated Dataset of Literary Entities" (Bamman, Popat and Shen,
# NAACL 2019): 80/10/10 by document. LitBank itself does not hold it; it is in
# github.com/dbamman/NAACL2019-literary-entities, data/litbank/{train,dev,test}.ids.
# A name begins with the work's number at Project Gutenberg.
LITBANK: Dict[str, Tuple[str, ...]] = {
    "train": (
        "11_alices_adventures_in_wonderland",
        "24_o_pioneers",
        "27_far_from_the_madding_crowd",
        "33_the_scarlet_letter",
        "41_the_legend_of_sleepy_hollow",
        "44_the_song_of_the_lark",
        "45_anne_of_green_gables",
        "62_a_princess_of_mars",
        "73_the_red_badge_of_courage_an_episode_of_the_american_civil_war",
        "76_adventures_of_huckleberry_finn",
        "77_the_house_of_the_seven_gables",
        "78_tarzan_of_the_apes",
        "84_frankenstein_or_the_modern_prometheus",
        "95_the_prisoner_of_zenda",
        "105_persuasion",
        "113_the_secret_garden",
        "120_treasure_island",
        "145_middlemarch",
        "155_the_moonstone",
        "158_emma",
        "160_the_awakening_and_selected_short_stories",
        "171_charlotte_temple",
        "174_the_picture_of_dorian_gray",
        "208_daisy_miller_a_study",
        "209_the_turn_of_the_screw",
        "217_sons_and_lovers",
        "219_heart_of_darkness",
        "233_sister_carrie_a_novel",
        "238_dear_enemy",
        "271_black_beauty",
        "345_dracula",
        "351_of_human_bondage",
        "367_country_of_the_pointed_firs",
        "472_the_house_behind_the_cedars",
        "502_desert_gold",
        "514_little_women",
        "521_the_life_and_adventures_of_robinson_crusoe",
        "543_main_street",
        "550_silas_marner",
        "599_vanity_fair",
        "711_allan_quatermain",
        "730_oliver_twist",
        "766_david_copperfield",
        "768_wuthering_heights",
        "805_this_side_of_paradise",
        "829_gullivers_travels_into_several_remote_nations_of_the_world",
        "932_the_fall_of_the_house_of_usher",
        "940_the_last_of_the_mohicans_a_narrative_of_1757",
        "974_the_secret_agent_a_simple_tale",
        "1064_the_masque_of_the_red_death",
        "1155_the_secret_adversary",
        "1245_night_and_day",
        "1260_jane_eyre_an_autobiography",
        "1327_elizabeth_and_her_german_garden",
        "1342_pride_and_prejudice",
        "1661_the_adventures_of_sherlock_holmes",
        "1695_the_man_who_was_thursday_a_nightmare",
        "2005_piccadilly_jim",
        "2084_the_way_of_all_flesh",
        "2095_clotelle_a_tale_of_the_southern_states",
        "2166_king_solomons_mines",
        "2489_moby_dick",
        "2641_a_room_with_a_view",
        "2775_the_good_soldier",
        "2807_to_have_and_to_hold",
        "2814_dubliners",
        "2852_the_hound_of_the_baskervilles",
        "2891_howards_end",
        "3457_the_man_of_the_forest",
        "4051_lady_bridget_in_the_nevernever_land_a_story_of_australian_life",
        "4217_a_portrait_of_the_artist_as_a_young_man",
        "4300_ulysses",
        "5230_the_invisible_man_a_grotesque_romance",
        "5348_ragged_dick_or_street_life_in_new_york_with_the_bootblacks",
        "6053_evelina_or_the_history_of_a_young_ladys_entrance_into_the_world",
        "6593_history_of_tom_jones_a_foundling",
        "8867_the_magnificent_ambersons",
        "9830_the_beautiful_and_damned",
        "11231_bartleby_the_scrivener_a_story_of_wallstreet",
        "16357_mary_a_fiction",
    ),
    "dev": (
        "32_herland",
        "36_the_war_of_the_worlds",
        "60_the_scarlet_pimpernel",
        "110_tess_of_the_durbervilles_a_pure_woman",
        "432_the_ambassadors",
        "876_life_in_the_ironmills_or_the_korl_woman",
        "1023_bleak_house",
        "3268_the_mysteries_of_udolpho",
        "12677_personality_plus_some_experiences_of_emma_mcchesney_and_her_son_jock",
        "18581_adrift_in_new_york_tom_and_florence_braving_the_world",
    ),
    "test": (
        "74_the_adventures_of_tom_sawyer",
        "215_the_call_of_the_wild",
        "434_the_circular_staircase",
        "541_the_age_of_innocence",
        "969_the_tenant_of_wildfell_hall",
        "1206_the_flying_u_ranch",
        "1400_great_expectations",
        "4276_north_and_south",
        "15265_the_quest_of_the_silver_fleece_a_novel",
        "41286_miss_marjoribanks",
    ),
}


def check_splits(
    corpus: str, splits: Mapping[str, Sequence[str]], found: Collection[str]
) -> None:
    """Make sure that every document is in exactly one split.

    corpus (str): The name of the corpus, for the message of an error.
    splits (Mapping[str, Sequence[str]]): The documents of each split, by name.
    found (Collection[str]): The documents that there are.
    RAISES (FileNotFoundError): If a document of a split is missing.
    RAISES (ValueError): If a document is in no split or in two.
    """
    counts = Counter(name for names in splits.values() for name in names)
    missing = sorted(counts.keys() - set(found))
    if missing:
        raise FileNotFoundError(
            Errors.CORPUS_DOCUMENTS_MISSING.format(corpus=corpus, documents=missing)
        )
    misplaced = sorted(name for name in {*counts, *found} if counts[name] != 1)
    if misplaced:
        raise ValueError(
            Errors.CORPUS_BAD_SPLIT.format(corpus=corpus, documents=misplaced)
        )
