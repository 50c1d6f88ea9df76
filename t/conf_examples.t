#!/usr/bin/perl

# Tests for the examples in conf/ and in README.md: nginx -t, the pool manager
# as the systemd unit starts it, and a REGISTER through each of them.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Socket::INET;
use IO::Socket::UNIX;
use MIME::Base64 qw/ encode_base64 /;

use Ims;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_request socket_ssl/)
    ->has_daemon('openssl')->plan(39);

my $dir = $t->testdir();
my $origin = 'https://www.example.org';

ims_keys($t);
ims_keys($t, name => 'shop');
ims_cert($t);

for my $name (qw/ www edge /) {
    for my $kind (qw/ crt key /) {
        $t->write_file("$name.example.org.$kind",
                       $t->read_file("localhost.$kind"));
    }
}

$t->write_file('htpasswd', 'alice:{PLAIN}secret');

my %conf = map { $_ => expand(slurp("conf/nginx-$_.conf")) }
    qw/ all-in-one edge site /;

###############################################################################

# the pool manager, by the line of its unit

my $unit = slurp('conf/systemd/ims-poolmgr.service');
my ($line) = $unit =~ m{^ExecStart=/usr/local/sbin/ims-poolmgr (.*)$}m;

like($line, qr/--dir \S+ --socket \S+/, 'command in the unit');

ims_spawn($t, 'pool.log', ims_program('ims-poolmgr'), paths($line),
    '--volatile', $> == 0 ? qw/ --user root --group root / : ());

ok(ims_wait(10, sub { IO::Socket::UNIX->new(Peer => "$dir/pool.sock") }),
    'pool manager started') or diag($t->read_file('pool.log'));

my $secrets = "$dir/pool/secrets";
ok(-e "$secrets/wwsf.secret" && -e "$secrets/edge.secret", 'made its secrets');

is((ims_poolctl($t, 'pool', 'create', 'web', 'ims.example'))[0], 0, 'pool');
is((ims_poolctl($t, 'import', 'web', '--range',
    'sip:web-[000001-000020]@ims.example'))[0], 0, 'identities');

# the example of secrets is one

$t->write_file('secrets/example.secret', slurp('conf/pool.secret.example'));
chmod 0600, "$dir/secrets/example.secret";

ims_spawn($t, 'pool2.log', ims_program('ims-poolmgr'), '--dir', "$dir/pool2",
    '--socket', "$dir/pool2.sock", '--secrets', "$dir/secrets/example.secret",
    '--volatile', $> == 0 ? qw/ --user root --group root / : ());
ok(ims_wait_log($t, qr/ready on/, file => 'pool2.log'), 'secrets taken')
    or diag($t->read_file('pool2.log'));

# each of them, and what is in README

for my $name (sort keys %conf) {
    my ($good, $out) = ims_conf_error($t, $conf{$name});

    ok($good, "$name: nginx -t") or diag($out);
    unlike($out, qr/\[(?:warn|emerg|alert|crit)\]/, "$name: in peace");
    unlike($conf{$name} =~ s{/etc/nginx/mime.types|/var/www/html}{}gr,
        qr{/(?:etc|var|run)/|(?<![0-9])192\.0\.2\.},
        "$name: nothing of this machine");
}

my ($shortest) = slurp('README.md') =~ /^```nginx\n(.*?)^```$/ms;
my @lines = grep { /\S/ && !/^\s*#/ } split /\n/, $shortest;

cmp_ok(scalar @lines, '<', 40, 'shortest is short');

my $small = expand($shortest =~ s/^load_module .*\n//mr
    =~ s/^ +# the site that you have$/site()/mer);
my ($good, $out) = ims_conf_error($t, $small);
ok($good, 'README: nginx -t') or diag($out, $small);
unlike($out, qr/\[(?:warn|emerg|alert|crit)\]/, 'README: in peace');

# all in one

my $core = ImsCore->new(port(8060));

start('all-in-one');

is(identity(8443)->{status}, 401, 'all-in-one: login wanted');
my $id = identity(8443, 'alice:secret');
is($id->{status}, 200, 'all-in-one: identity');
is($id->{json}{ws_uri}, 'wss://www.example.org/ims/ws', 'all-in-one: edge');
is(registered($id, 8443), 200, 'all-in-one: registered');
is(identity(8443, 'alice:wrong')->{status}, 401, 'all-in-one: bad password');
is(identity(8443, 'alice:secret', 'https://evil.example')->{status}, 403,
    'all-in-one: foreign origin');

my $status = https(8443, "GET /ims/status HTTP/1.0\r\n"
                         . "Host: www.example.org\r\n\r\n");
like($status, qr/"register_ok": 1\b/, 'all-in-one: counted');

like(http_get('/x'), qr{^Location: https://localhost/x\r$}m,
    'all-in-one: to https');

stop();

# what README shows, in a site that is there

start(undef, $small);

$id = identity(8443, 'alice:secret');
is($id->{status}, 200, 'README: identity');
is(registered($id, 8443), 200, 'README: registered');

stop();

# nginx's own limit holds in these locations

my $limited = $small
    =~ s/^(http \{)/$1
    limit_req_zone  \$binary_remote_addr zone=ask:1m rate=1r\/m;
    limit_req_zone  \$binary_remote_addr zone=open:1m rate=1r\/m;/mr
    =~ s/^(\s+)(ims_identity .*)/$1limit_req zone=ask burst=1 nodelay;\n$1$2/mr
    =~ s/^(\s+)(ims_pass .*)/$1limit_req zone=open burst=1 nodelay;\n$1$2/mr;
start(undef, $limited);

is(join(' ', map { identity(8443, 'alice:secret')->{status} } 1 .. 3),
    '200 200 503', 'limit_req of identities');

my @opened = map {
    ImsWs->new(port => port(8443), ssl => 1, origin => $origin)->{status}
} 1 .. 3;
is("@opened", '101 101 503', 'limit_req of WebSockets');

stop();

# site and edge, two nginx; the site asks its application who it is

$t->run_daemon(\&application, port(8090));
$t->waitforsocket('127.0.0.1:' . port(8090));

$t->write_file_expand('site.conf', $conf{site} =~ s/8443/8444/gr);
ims_spawn($t, 'site.log', $ENV{TEST_NGINX_BINARY}, '-p', "$dir/",
    '-c', 'site.conf', '-e', "$dir/site-error.log", '-g',
    "pid $dir/site.pid; error_log $dir/site-error.log info;");
ok(ims_wait(10, sub {
    IO::Socket::INET->new('127.0.0.1:' . port(8444));
}), 'site: started') or diag($t->read_file('site.log'));

start('edge');

$id = identity(8444, 'bob:');
is($id->{status}, 200, 'site: identity');
is($id->{json}{ws_uri}, 'wss://edge.example.org/ims/ws', 'site: edge');
is(identity(8444)->{status}, 401, 'site: who is not logged in');
is(registered($id, 8443), 200, 'edge: registered');
is(registered($id, 8443, 'https://app.example.org'), 403,
    'edge: token of another page');
is(registered($id, 8443, 'https://shop.example.com'), 403,
    'edge: page of another issuer');
is(registered($id, 8443, 'https://evil.example'), 0,
    'edge: foreign page');

unlike($t->read_file('site-error.log'), qr/\[(?:alert|emerg|crit)\]/,
    'site: no alerts');

# the subs below hold it, too

undef $t;

###############################################################################

sub slurp {
    open my $f, '<', "$Ims::ROOT/$_[0]" or die "$_[0]: $!\n";
    local $/;
    return scalar <$f>;
}


# places of a real machine become those of the test

sub expand {
    my ($text) = @_;

    my $user = $> == 0 ? 'user root;' : '';
    my $globals = $ENV{TEST_NGINX_GLOBALS} // '';
    my $module = ims_module();

    for ($text) {
        s/^user .*\n//m;
        s/^pid .*\n//m;
        s/^error_log .*\n//m;
        s/^(?=events|http)/events { }\n/m unless /^events/m;
        s{^include .*/modules-enabled/\*.conf;$}{}m;
        s/^\s*listen\s+\[::\].*\n//mg;
        s/(listen\s+)443 ssl/${1}127.0.0.1:8443 ssl/g;
        s/(listen\s+)80;/${1}127.0.0.1:8080;/g;
        s/^(http \{)/$1\n    %%TEST_GLOBALS_HTTP%%/m;
        s/^\s*access_log .*\n//m;
        s/127\.0\.0\.1:3000/127.0.0.1:8090/g;
        s/192\.0\.2\.10:5070/127.0.0.1:8070/g;
        s/192\.0\.2\.20:5060/127.0.0.1:8060/g;
        s/192\.0\.2\.21:5060/127.0.0.1:8061/g;
        s/192\.0\.2\.\d+/127.0.0.1/g;
    }

    return "$globals$user\nload_module $module;\ndaemon off;\n"
        . join "\n", paths_of($text);
}


sub paths_of {
    my ($text) = @_;

    for ($text) {
        s{/var/lib/ims-pool/pool}{$dir/pool}g;
        s{/run/ims/pool\.sock}{$dir/pool.sock}g;
        s{/var/lib/nginx/ims}{$dir/state}g;
        s{/etc/ims/}{$dir/}g;
    }

    return $text;
}


sub paths { return split / /, paths_of($_[0]) }


# a site as somebody may have it; the locations of README are put into it

sub site {
    return <<'END';
        listen               443 ssl;
        server_name          www.example.org;
        ssl_certificate      /etc/ims/www.example.org.crt;
        ssl_certificate_key  /etc/ims/www.example.org.key;
END
}


sub start {
    my ($name, $text) = @_;

    $t->write_file_expand('nginx.conf', $text // $conf{$name});
    $t->run();
}


# a worker that leaves waits for the core to hang up

sub stop {
    $core->close($_) for $core->links();
    $t->stop();
}


sub https {
    my ($port, $request) = @_;

    return http($request, SSL => 1, PeerAddr => '127.0.0.1:' . port($port))
        // '';
}


# Basic credentials, or for the site of an application: its cookie

sub identity {
    my ($port, $login, $from) = @_;

    $from //= $origin;

    my $who = !defined $login ? ''
        : $port == 8444 ? 'Cookie: user=' . ($login =~ s/:.*//r) . "\r\n"
        : 'Authorization: Basic ' . encode_base64($login, '') . "\r\n";

    my $reply = https($port, "POST /ims/identity HTTP/1.0\r\n"
        . "Host: www.example.org\r\nOrigin: $from\r\n$who\r\n");
    my ($head, $body) = split /\r\n\r\n/, $reply, 2;
    my ($code) = ($head // '') =~ m{^HTTP/1\.\d (\d+)};

    return { status => $code // 0,
             json => scalar eval { JSON::PP::decode_json($body) } };
}


# the status of a REGISTER with that identity; 0: no WebSocket at all

sub registered {
    my ($given, $port, $from) = @_;

    my $ws = ImsWs->new(port => port($port), ssl => 1,
                        origin => $from // $origin);

    return 0 if $ws->{status} != 101;

    $ws->send(ImsSip->new(aor => $given->{json}{impu},
                          token => $given->{json}{token})->register());

    my ($m, $link) = $core->request(2);
    $core->reply($link, $m, 200, 'OK') if $m;

    my $answer = sip_parse($ws->recv(5) // '');

    return $answer ? $answer->{status} : 0;
}


# The site's own application: it believes a cookie. One request a connection.

sub application {
    my ($port) = @_;

    my $server = IO::Socket::INET->new(Proto => 'tcp', Listen => 5,
        LocalAddr => "127.0.0.1:$port", Reuse => 1) or die "$port: $!\n";

    while (my $client = $server->accept()) {
        my $head = '';

        while (my $text = <$client>) {
            $head .= $text;
            last if $text =~ /^\r?\n/;
        }

        my ($user) = $head =~ /^Cookie:.*\buser=(\w+)/mi;

        print $client $user
            ? "HTTP/1.0 204 No Content\r\nX-User: $user\r\n\r\n"
            : "HTTP/1.0 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        close $client;
    }
}

###############################################################################
