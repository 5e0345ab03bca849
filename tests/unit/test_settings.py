"""Settings: four sources, later wins; mistakes name the setting."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pileus.settings import Settings, SettingsError, load, reference, secrets_for_all


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "pileus.toml"
    file.write_text('region = "file"\ntoken_hours = 2\nmtu = 9000\n')
    assert load(environment={}).region == "RegionOne"
    settings = load(file, {"PILEUS_REGION": "environment", "PILEUS_TOKEN_HOURS": "3"}, {"region": "line"})
    assert (settings.region, settings.token_hours, settings.mtu) == ("line", 3.0, 9000)


def test_texts_become_what_the_setting_is() -> None:
    settings = load(None, {}, {
        "classic_ports": "true", "services": "identity,image", "physical_networks": "public:br-ex,lab:br-lab",
        "vni_range": "10,20", "database_pool": "3", "hypervisor": "fake", "dns_servers": "",
    })
    assert settings.classic_ports is True
    assert settings.services == ("identity", "image")
    assert settings.physical_networks == {"public": "br-ex", "lab": "br-lab"}
    assert settings.vni_range == (10, 20)
    assert settings.database_pool == 3
    assert settings.dns_servers == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hypervisor", "xen"), ("database_pool", "0"), ("database_pool", "many"), ("classic_ports", "perhaps"),
        ("vni_range", "1"), ("vni_range", "a,b"), ("token_hours", "0"), ("mtu", "100"),
        ("namespace_prefix", "too-long"), ("physical_networks", "public=br-ex"), ("log_format", ""),
    ],
)
def test_a_value_it_cannot_have_names_the_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(None, {}, {name: value})


def test_unknown_names_are_refused_where_they_can_be_meant(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'colour'"):
        load(None, {}, {"colour": "red"})
    file = tmp_path / "pileus.toml"
    file.write_text('colour = "red"\n')
    with pytest.raises(SettingsError, match="colour"):
        load(file, {})
    load(None, {"PILEUS_COLOUR": "red", "HOME": "/"})  # other programs' variables may begin so too


@pytest.mark.parametrize("data", [b"region = ", b"\xff\xfe", b'region = "a"\nregion = "b"\n', b"mtu = 'x'\n"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "pileus.toml"
    file.write_bytes(data)
    with pytest.raises(SettingsError):
        load(file, {})
    with pytest.raises(SettingsError, match="gone"):
        load(tmp_path / "gone", {})


def test_paths_and_urls_follow_from_others() -> None:
    settings = Settings(state_dir="/srv/pileus", listen="10.0.0.1:80")
    assert settings.database_url == "sqlite:////srv/pileus/pileus.db"
    assert settings.run == Path("/srv/pileus/run")
    assert settings.endpoint == "http://10.0.0.1:80"
    more = Settings(database="postgresql://db/p", run_dir="/run/pileus", public_url="https://cloud.example/")
    assert (more.database_url, str(more.run), more.endpoint) == (
        "postgresql://db/p", "/run/pileus", "https://cloud.example",
    )


def test_every_setting_says_what_it_is_for() -> None:
    rows = reference()
    assert [name for name, *_ in rows] == list(Settings.__struct_fields__)
    for name, kind, default, text in rows:
        assert kind, name
        assert text.endswith("."), f"{name}: help is a sentence"
        msgspec.json.decode(default)


def test_a_password_of_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3:cr@t/\n")
    given = {"database": "mysql://pileus@h1,h2/db", "database_password_file": str(file)}
    assert load(None, {}, given).database_url == "mysql://pileus:s3%3Acr%40t%2F@h1,h2/db"
    with pytest.raises(SettingsError, match="database_password_file"):
        _ = load(None, {}, {**given, "database": "mysql://pileus:x@h1/db"}).database_url
    file.unlink()
    with pytest.raises(SettingsError, match="database_password_file"):
        _ = load(None, {}, given).database_url


def test_passwords_that_everyone_can_read_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "pileus.toml"
    file.write_text('database = "mysql://u:secret@h/db"\n')
    file.chmod(0o644)
    assert secrets_for_all(file)
    file.chmod(0o640)
    assert not secrets_for_all(file)
    file.write_text('database = "mysql://u@h/db"\n')
    file.chmod(0o644)
    assert not secrets_for_all(file)
